// GGUF Q8_0: blocks of 32 columns, w = scale * quant. On the GPU a block is 9 words: the scale (f16, low half), then
// 32 signed bytes. The file's blocks of 34 bytes are widened to this at load.
@group(0) @binding(2) var<storage, read> weight: array<u32>;
fn weight_words(row: u32, quad: u32, quads_per_row: u32) -> vec4u {
    let block = (row * (quads_per_row >> 3u) + (quad >> 3u)) * 9u;
    return vec4u(weight[block], weight[block + 1u + (quad & 7u)], 0u, 0u);
}

fn weight_values(words: vec4u, quad: u32) -> vec4f {
    let packed = bitcast<i32>(words.y);
    let quants = vec4i(packed << 24u, packed << 16u, packed << 8u, packed) >> vec4u(24u);
    return unpack2x16float(words.x).x * vec4f(quants);
}

fn weight_quad(row: u32, quad: u32, quads_per_row: u32) -> vec4f {
    return weight_values(weight_words(row, quad, quads_per_row), quad);
}
