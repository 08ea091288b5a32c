// GGUF IQ4_NL: blocks of 32 columns, w = scale * one of 16 fixed values. Laid out as Q4_0 is.
// include: weights/iq4_values.wgsl
@group(0) @binding(2) var<storage, read> weight: array<u32>;
fn weight_words(row: u32, quad: u32, quads_per_row: u32) -> vec4u {
    let pair = row * (((quads_per_row >> 3u) * 9u + 1u) >> 1u) + (quad >> 4u) * 9u;
    return vec4u(weight[pair], weight[pair + 1u + ((quad >> 1u) & 4u) + (quad & 3u)], 0u, 0u);
}

fn weight_values(words: vec4u, quad: u32) -> vec4f {
    let scale = unpack2x16float(words.x >> ((quad & 8u) << 1u)).x;
    return scale * iq4_values((words.y >> (quad & 4u)) & 0x0f0f0f0fu);
}

fn weight_quad(row: u32, quad: u32, quads_per_row: u32) -> vec4f {
    return weight_values(weight_words(row, quad, quads_per_row), quad);
}
