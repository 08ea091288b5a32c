// Weights as float16, two to a u32: needs no shader-f16.
@group(0) @binding(2) var<storage, read> weight: array<vec2u>;
fn weight_quad(row: u32, quad: u32, quads_per_row: u32) -> vec4f {
    let packed = weight[row * quads_per_row + quad];
    return vec4f(unpack2x16float(packed.x), unpack2x16float(packed.y));
}
