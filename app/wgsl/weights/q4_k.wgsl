// GGUF Q4_K: blocks of 256 columns, w = d * scale * quant - m * low, with a scale and a low for every 32 columns.
// On the GPU a block is 37 words: d and m (f16 each), 4 words of scale, low, scale, low (a byte each; the file packs them
// to 6 bits), and the quants as in the file: of each 64 columns, byte j holds column j in its low nibble and j + 32 in
// its high one.
// include: weights/bytes.wgsl
@group(0) @binding(2) var<storage, read> weight: array<u32>;
fn weight_words(row: u32, quad: u32, quads_per_row: u32) -> vec4u {
    let block = (row * (quads_per_row >> 6u) + (quad >> 6u)) * 37u;
    let quants = block + 5u + ((quad >> 1u) & 24u) + (quad & 7u);
    return vec4u(weight[block], weight[block + 1u + ((quad >> 4u) & 3u)], weight[quants], 0u);
}

fn weight_values(words: vec4u, quad: u32) -> vec4f {
    let d_m = unpack2x16float(words.x);
    let scale_low = words.y >> ((quad & 8u) << 1u);
    let quants = unsigned_bytes((words.z >> ((quad & 8u) >> 1u)) & 0x0f0f0f0fu);
    return d_m.x * f32(scale_low & 255u) * quants - d_m.y * f32((scale_low >> 8u) & 255u);
}

fn weight_quad(row: u32, quad: u32, quads_per_row: u32) -> vec4f {
    return weight_values(weight_words(row, quad, quads_per_row), quad);
}
