# The steps of the methods, as Runge–Kutta methods along a path.

const F, G = true, false

# Entries of A are (row, stage, weight), terms of the noise (row, stage, integral, weight).

function HybridNDS.path_scheme(::Type{T}, ::EM, columns) where {T}
    return PathScheme{T}([F, G], [0, 0], [(3, 1, 1)], [(3, 2, INCREMENT, 1)])
end

function HybridNDS.path_scheme(::Type{T}, ::LambaEM, columns) where {T}
    return PathScheme{T}([F, G], [0, 1], [(2, 1, 1), (3, 1, 1)], [(3, 2, INCREMENT, 1)])
end

function HybridNDS.path_scheme(::Type{T}, ::EulerHeun, columns) where {T}
    return PathScheme{T}([F, G, F, G], [0, 0, 1, 1],
        [(3, 1, 1), (4, 1, 1), (5, 1, 1 / 2), (5, 3, 1 / 2)],
        [(3, 2, INCREMENT, 1), (4, 2, INCREMENT, 1), (5, 2, INCREMENT, 1 / 2),
            (5, 4, INCREMENT, 1 / 2)])
end

is_ito(algorithm) = SciMLBase.alg_interpretation(algorithm) == ITO

# Milstein's term by a difference of the diffusion, of stage j less that of stage 2.
milstein(i, j, integral) = [(i, 2, integral, -1), (i, j, integral, 1)]

function HybridNDS.path_scheme(::Type{T}, algorithm::RKMil, columns) where {T}
    ito = is_ito(algorithm)
    return PathScheme{T}([F, G, G], [0, 0, 0], [(3, 1, ito), (4, 1, 1)],
        [(3, 2, ROOT, 1); (4, 2, INCREMENT, 1); milstein(4, 3, SECOND)]; ito)
end

# A difference for each column of the diffusion.
function HybridNDS.path_scheme(::Type{T}, algorithm::RKMilCommute, columns) where {T}
    interpretation = SciMLBase.alg_interpretation(algorithm)
    columns == 0 && return HybridNDS.path_scheme(T, RKMil(; interpretation), columns)
    last = 3 + columns
    A, terms = [(last, 1, 1)], [(last, 2, INCREMENT, 1)]
    for column in 1:columns
        push!(A, (2 + column, 1, 1))
        push!(terms, (2 + column, 2, HybridNDS.root(column), 1))
        append!(terms, milstein(last, 2 + column, HybridNDS.second(column)))
    end
    return PathScheme{T}([F; fill(G, columns + 1)], zeros(columns + 2), A, terms;
        columns, ito = is_ito(algorithm))
end

function HybridNDS.path_scheme(::Type{T}, ::SRA1, columns) where {T}
    return PathScheme{T}([F, G, G, F], [0, 0, 1, 3 / 4],
        [(4, 1, 3 / 4), (5, 1, 1 / 3), (5, 4, 2 / 3)],
        [(4, 3, TIME_INTEGRAL, 3 / 2), (5, 2, TIME_INTEGRAL, 1), (5, 3, INCREMENT, 1),
            (5, 3, TIME_INTEGRAL, -1)])
end

# Rößler's methods (2010): stages 2i - 1 and 2i are drift and diffusion number i, at points
# of their own. `B₀`, `B₁` and `β` are pairs of an integral and
# its weights.
function roessler(::Type{T}, c₀, c₁, A₀, A₁, B₀, B₁, α, β) where {T}
    s = length(c₀)
    A, terms = Tuple{Int, Int, T}[], Tuple{Int, Int, Int, T}[]
    for j in 1:s
        for i in (j + 1):s
            push!(A, (2i - 1, 2j - 1, A₀[i, j]), (2i, 2j - 1, A₁[i, j]))
            for (row, (integral, weights)) in ((2i - 1, B₀), (2i, B₁))
                push!(terms, (row, 2j, integral, weights[i, j]))
            end
        end
        push!(A, (2s + 1, 2j - 1, α[j]))
        append!(terms, [(2s + 1, 2j, integral, weights[j]) for (integral, weights) in β])
    end
    return PathScheme{T}(repeat([F, G], s), vec([c₀ c₁]'), A, terms)
end

# For diagonal noise (section 6.1).
function HybridNDS.path_scheme(::Type{T}, ::SRIW1, columns) where {T}
    tab = constructSRIW1(T, T)
    return roessler(T, tab.c₀, tab.c₁, tab.A₀, tab.A₁, TIME_INTEGRAL => tab.B₀,
        ROOT => tab.B₁, tab.α,
        (INCREMENT => tab.β₁, SECOND => tab.β₂, TIME_INTEGRAL => tab.β₃,
            THIRD => tab.β₄))
end

# For additive noise (section 6.2): Julia's takes drift and diffusion at one point.
function HybridNDS.path_scheme(::Type{T}, ::SOSRA, columns) where {T}
    tab = constructSOSRA(T, T)
    noise = TIME_INTEGRAL => tab.B₀
    return roessler(T, tab.c₀, tab.c₁, tab.A₀, tab.A₀, noise, noise, tab.α,
        (INCREMENT => tab.β₁, TIME_INTEGRAL => tab.β₂))
end

# Methods that are implicit in the drift, with a weight θ of its value at the end of the
# step, which they take at t + θh.
theta_rows(θ, stage, rows) = [(row, j, weight)
                              for row in rows for (j, weight) in ((1, 1 - θ), (stage, θ))]

function HybridNDS.path_scheme(::Type{T}, algorithm::ImplicitEM, columns) where {T}
    drift = theta_rows(algorithm.theta, 3, 3:4)
    return PathScheme{T}([F, G, F], [0, 0, algorithm.theta], drift,
        [(row, 2, INCREMENT, 1) for row in 3:4])
end

function HybridNDS.path_scheme(::Type{T}, algorithm::ImplicitEulerHeun, columns) where {T}
    drift = theta_rows(algorithm.theta, 4, 4:5)
    return PathScheme{T}([F, G, G, F], [0, 0, 0, algorithm.theta], drift,
        [(3, 2, INCREMENT, 1);
         [(row, j, INCREMENT, 1 / 2) for row in 4:5 for j in 2:3]])
end

function HybridNDS.path_scheme(::Type{T}, algorithm::ImplicitRKMil, columns) where {T}
    ito = is_ito(algorithm)
    drift = [(3, 1, ito); theta_rows(algorithm.theta, 4, 4:5)]
    return PathScheme{T}([F, G, G, F], [0, 0, 0, algorithm.theta], drift,
        [(3, 2, ROOT, 1); [(row, 2, INCREMENT, 1) for row in 4:5];
         milstein(4, 3, SECOND); milstein(5, 3, SECOND)]; ito)
end

# Split steps: the drift's first.
function HybridNDS.path_scheme(::Type{T}, algorithm::ISSEM, columns) where {T}
    drift = theta_rows(algorithm.theta, 3, 3:4)
    return PathScheme{T}([F, G, F], [0, 0, algorithm.theta], drift, [(4, 2, INCREMENT, 1)])
end

function HybridNDS.path_scheme(::Type{T}, algorithm::ISSEulerHeun, columns) where {T}
    drift = theta_rows(algorithm.theta, 3, 3:5)
    return PathScheme{T}([F, G, F, G], [0, 0, algorithm.theta, 0], drift,
        [(4, 2, INCREMENT, 1), (5, 2, INCREMENT, 1 / 2), (5, 4, INCREMENT, 1 / 2)])
end
