// The four bytes of a word as numbers, the lowest first.
fn unsigned_bytes(word: u32) -> vec4f { return vec4f((vec4u(word) >> vec4u(0u, 8u, 16u, 24u)) & vec4u(255u)); }

fn signed_bytes(word: u32) -> vec4f {
    return vec4f(bitcast<vec4i>(vec4u(word) << vec4u(24u, 16u, 8u, 0u)) >> vec4u(24u));
}
