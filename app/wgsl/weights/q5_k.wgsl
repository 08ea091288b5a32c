// GGUF Q5_K: blocks of 256 columns, w = d * scale * quant - m * low, with a scale and a low for every 32 columns.
// On the GPU a block is 45 words: d and m and the scales as in Q4_K, then as in the file 8 words of fifth bits, bit k of
// byte j being column 32 k + j's, and the lower four bits as in Q4_K.
// include: weights/bytes.wgsl
@group(0) @binding(2) var<storage, read> weight: array<u32>;
fn weight_words(row: u32, quad: u32, quads_per_row: u32) -> vec4u {
    let block = (row * (quads_per_row >> 6u) + (quad >> 6u)) * 45u;
    let high = block + 5u + (quad & 7u);
    return vec4u(weight[block], weight[block + 1u + ((quad >> 4u) & 3u)], weight[high],
                 weight[high + 8u + ((quad >> 1u) & 24u)]);
}

fn weight_values(words: vec4u, quad: u32) -> vec4f {
    let d_m = unpack2x16float(words.x);
    let scale_low = words.y >> ((quad & 8u) << 1u);
    let fifth = ((words.z >> ((quad >> 3u) & 7u)) & 0x01010101u) << 4u;
    let quants = unsigned_bytes(((words.w >> ((quad & 8u) >> 1u)) & 0x0f0f0f0fu) | fifth);
    return d_m.x * f32(scale_low & 255u) * quants - d_m.y * f32((scale_low >> 8u) & 255u);
}

fn weight_quad(row: u32, quad: u32, quads_per_row: u32) -> vec4f {
    return weight_values(weight_words(row, quad, quads_per_row), quad);
}
