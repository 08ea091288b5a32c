// Weights as float32, rows padded to whole quads of four columns.
@group(0) @binding(2) var<storage, read> weight: array<vec4f>;
fn weight_words(row: u32, quad: u32, quads_per_row: u32) -> vec4u {
    return bitcast<vec4u>(weight[row * quads_per_row + quad]);
}

fn weight_values(words: vec4u, quad: u32) -> vec4f { return bitcast<vec4f>(words); }

fn weight_quad(row: u32, quad: u32, quads_per_row: u32) -> vec4f {
    return weight_values(weight_words(row, quad, quads_per_row), quad);
}
