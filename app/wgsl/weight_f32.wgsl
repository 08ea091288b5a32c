// Weights as float32, rows padded to whole quads of four columns.
@group(0) @binding(2) var<storage, read> weight: array<vec4f>;
fn weight_quad(row: u32, quad: u32, quads_per_row: u32) -> vec4f {
    return weight[row * quads_per_row + quad];
}
