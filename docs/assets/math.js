// Formulas arrive as \(...\) and \[...\]; typeset them on every page shown.
function typeset() {
  if (typeof renderMathInElement === "undefined") return;
  renderMathInElement(document.body, {
    delimiters: [
      { left: "\\(", right: "\\)", display: false },
      { left: "\\[", right: "\\]", display: true },
    ],
    throwOnError: false,
  });
}
document.addEventListener("DOMContentLoaded", typeset);
