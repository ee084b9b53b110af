# Philox4x32-10 (Salmon, Moraes, Dror & Shaw 2011, "Parallel random numbers: as easy as
# 1, 2, 3"): a block cipher of a counter. Every number is a function of the key, the
# trajectory and the position in its path alone, whoever computes it and when.

const PHILOX_ROUNDS = 10
const PHILOX_MULTIPLIERS = (0x00000000d2511f53, 0x00000000cd9e8d57)
const PHILOX_WEYL = (0x9e3779b9, 0xbb67ae85)
const LOW_WORD = 0x00000000ffffffff

"""
    philox(c0, c1, c2, c3, key)

The four 32-bit words of Philox4x32-10, each in the low half of 64 bits: for one counter
or a vector of them.
"""
@inline function philox(c0, c1, c2, c3, key::NTuple{2, UInt32})
    k0, k1 = key
    for _ in 1:PHILOX_ROUNDS
        p0, p1 = PHILOX_MULTIPLIERS[1] * c0, PHILOX_MULTIPLIERS[2] * c2
        c0, c1, c2, c3 = (p1 >> 32) ⊻ c1 ⊻ UInt64(k0), p1 & LOW_WORD,
        (p0 >> 32) ⊻ c3 ⊻ UInt64(k1), p0 & LOW_WORD
        k0, k1 = k0 + PHILOX_WEYL[1], k1 + PHILOX_WEYL[2]
    end
    return c0, c1, c2, c3
end

"""
    normal_pair(key, trajectories, kind, pair)

Two vectors of independent standard normal numbers, a lane for each trajectory: numbers
2`pair` and 2`pair` + 1 of the sequence `kind`, by Box and Muller's transform. Its
largest magnitude is √(104 ln 2) ≈ 8.49: what lies beyond has probability 2e-17.
"""
@inline function normal_pair(key::NTuple{2, UInt32}, trajectories::Words, kind::UInt64,
        pair::UInt64)
    w0, w1, w2, w3 = philox(Words(pair & LOW_WORD), Words((pair >> 32) << 1 | kind),
        trajectories & LOW_WORD, trajectories >> 32, key)
    # 52 bits as a number in [1, 2).
    fraction(low, high) = number(
        ((low >> 12) | (high << 20)) | 0x3ff0000000000000)
    uniform = 2.0 - fraction(w0, w1)
    radius = sqrt(-2.0 * natural_logarithm(uniform))
    # An angle within π/4 of zero, then one of its four images under exchange of sine
    # and cosine and change of both signs: bits that no fraction used.
    angle = (fraction(w2, w3) - 1.5) * (π / 2)
    along, across = radius * small_cosine(angle), radius * small_sine(angle)
    exchange = w0 & 1 == 1
    sign = (w0 >> 1) & 1
    return negate_where(sign, vifelse(exchange, across, along)),
    negate_where(sign, vifelse(exchange, along, across))
end
