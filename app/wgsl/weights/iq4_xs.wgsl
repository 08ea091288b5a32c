// GGUF IQ4_XS: blocks of 256 columns, w = d * (scale - 32) * one of 16 fixed values, with a scale for every 32 columns.
// On the GPU a block is 35 words: d, an f32 because as an f16 it is subnormal in many a file; 8 signed bytes of scale - 32
// (the file packs them to 6 bits); and as in the file 4 words of nibbles for every 32 columns, as in Q4_0.
// include: weights/iq4_values.wgsl
@group(0) @binding(2) var<storage, read> weight: array<u32>;
fn weight_words(row: u32, quad: u32, quads_per_row: u32) -> vec4u {
    let block = (row * (quads_per_row >> 6u) + (quad >> 6u)) * 35u;
    let quants = block + 3u + ((quad >> 1u) & 28u) + (quad & 3u);
    return vec4u(weight[block], weight[block + 1u + ((quad >> 5u) & 1u)], weight[quants], 0u);
}

fn weight_values(words: vec4u, quad: u32) -> vec4f {
    let scale = bitcast<i32>(words.y << (24u - (quad & 24u))) >> 24u;
    return bitcast<f32>(words.x) * f32(scale) * iq4_values((words.z >> (quad & 4u)) & 0x0f0f0f0fu);
}

fn weight_quad(row: u32, quad: u32, quads_per_row: u32) -> vec4f {
    return weight_values(weight_words(row, quad, quads_per_row), quad);
}
