// GGUF Q2_K: blocks of 256 columns, w = d * scale * quant - m * low, with a scale and a low for every 16 columns.
// A block is 21 words, as in the file: 16 bytes of scale (low nibble) and low (high nibble), 16 words of quants, d and m
// (f16 each). Of each 128 columns, byte j has those of columns j, j + 32, j + 64, j + 96 from its lowest bits on.
// include: weights/bytes.wgsl
@group(0) @binding(2) var<storage, read> weight: array<u32>;
fn weight_words(row: u32, quad: u32, quads_per_row: u32) -> vec4u {
    let block = (row * (quads_per_row >> 6u) + (quad >> 6u)) * 21u;
    let quants = block + 4u + ((quad >> 2u) & 8u) + (quad & 7u);
    return vec4u(weight[block + 20u], weight[block + ((quad >> 4u) & 3u)], weight[quants], 0u);
}

fn weight_values(words: vec4u, quad: u32) -> vec4f {
    let d_m = unpack2x16float(words.x);
    let scale_low = words.y >> ((quad & 12u) << 1u);
    let quants = unsigned_bytes((words.z >> ((quad >> 2u) & 6u)) & 0x03030303u);
    return d_m.x * f32(scale_low & 15u) * quants - d_m.y * f32((scale_low >> 4u) & 15u);
}

fn weight_quad(row: u32, quad: u32, quads_per_row: u32) -> vec4f {
    return weight_values(weight_words(row, quad, quads_per_row), quad);
}
