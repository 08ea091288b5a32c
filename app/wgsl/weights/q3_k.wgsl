// GGUF Q3_K: blocks of 256 columns, w = d * (scale - 32) * (quant - 4), with a scale for every 16 columns.
// On the GPU a block is 28 words: 8 of third bits, bit k of byte j being column 32 k + j's, and 16 of the lower two as in
// Q2_K, both as in the file; then 3 words of five 6-bit scales each, and one of the last scale and d (f16, upper half).
// include: weights/bytes.wgsl
@group(0) @binding(2) var<storage, read> weight: array<u32>;
fn weight_words(row: u32, quad: u32, quads_per_row: u32) -> vec4u {
    let block = (row * (quads_per_row >> 6u) + (quad >> 6u)) * 28u;
    let scales = block + 24u + ((((quad >> 2u) & 15u) * 13u) >> 6u);    // the scale's number, over five
    let quants = block + 8u + ((quad >> 2u) & 8u) + (quad & 7u);
    return vec4u(weight[block + 27u], weight[scales], weight[block + (quad & 7u)], weight[quants]);
}

fn weight_values(words: vec4u, quad: u32) -> vec4f {
    let part = (quad >> 2u) & 15u;
    let scale = (words.y >> (part * 6u - ((part * 13u) >> 6u) * 30u)) & 63u;
    let third = ((words.z >> ((quad >> 3u) & 7u)) & 0x01010101u) << 2u;
    let quants = unsigned_bytes(((words.w >> ((quad >> 2u) & 6u)) & 0x03030303u) | third);
    return unpack2x16float(words.x).y * (f32(scale) - 32.0) * (quants - 4.0);
}

fn weight_quad(row: u32, quad: u32, quads_per_row: u32) -> vec4f {
    return weight_values(weight_words(row, quad, quads_per_row), quad);
}
