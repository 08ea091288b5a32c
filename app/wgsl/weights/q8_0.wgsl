// GGUF Q8_0: blocks of 32 columns, w = scale * quant. On the GPU two blocks of a row are 17 words: both scales (f16), then
// 8 words of signed bytes each. A row of an odd number of blocks ends with half a pair, its second scale unused.
// include: weights/bytes.wgsl
@group(0) @binding(2) var<storage, read> weight: array<u32>;
fn weight_words(row: u32, quad: u32, quads_per_row: u32) -> vec4u {
    let pair = row * (((quads_per_row >> 3u) * 17u + 1u) >> 1u) + (quad >> 4u) * 17u;
    return vec4u(weight[pair], weight[pair + 1u + (quad & 15u)], 0u, 0u);
}

fn weight_values(words: vec4u, quad: u32) -> vec4f {
    return unpack2x16float(words.x >> ((quad & 8u) << 1u)).x * signed_bytes(words.y);
}

fn weight_quad(row: u32, quad: u32, quads_per_row: u32) -> vec4f {
    return weight_values(weight_words(row, quad, quads_per_row), quad);
}
