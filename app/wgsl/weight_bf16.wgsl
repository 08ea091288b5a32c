// Weights as bfloat16, two to a u32: a bfloat16 is the upper half of the float32 of the same value.
@group(0) @binding(2) var<storage, read> weight: array<vec2u>;
fn weight_quad(row: u32, quad: u32, quads_per_row: u32) -> vec4f {
    let packed = weight[row * quads_per_row + quad];
    return bitcast<vec4f>(vec4u(packed.x << 16u, packed.x & 0xffff0000u, packed.y << 16u, packed.y & 0xffff0000u));
}
