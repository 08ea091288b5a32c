// GGUF Q6_K: blocks of 256 columns, w = d * scale * (quant - 32), with a scale for every 16 columns.
// A block is 53 words, as in the file: 32 of the lower four bits, 16 of the upper two, 16 signed bytes of scales, and d,
// which is an f32 here: so small that as an f16 it is subnormal in many a file. Of each 128 columns, lower byte j (of 64) has those of columns j and j + 64, upper byte j
// (of 32) those of j, j + 32, j + 64, j + 96, from the lowest bits on.
// include: weights/bytes.wgsl
@group(0) @binding(2) var<storage, read> weight: array<u32>;
fn weight_words(row: u32, quad: u32, quads_per_row: u32) -> vec4u {
    let block = (row * (quads_per_row >> 6u) + (quad >> 6u)) * 53u;
    return vec4u(weight[block + 52u], weight[block + 48u + ((quad >> 4u) & 3u)],
                 weight[block + 32u + ((quad >> 2u) & 8u) + (quad & 7u)],
                 weight[block + ((quad >> 1u) & 16u) + (quad & 15u)]);
}

fn weight_values(words: vec4u, quad: u32) -> vec4f {
    let scale = bitcast<i32>(words.y << (24u - ((quad & 12u) << 1u))) >> 24u;
    let upper = ((words.z >> ((quad >> 2u) & 6u)) & 0x03030303u) << 4u;
    let quants = unsigned_bytes(((words.w >> ((quad >> 2u) & 4u)) & 0x0f0f0f0fu) | upper);
    return bitcast<f32>(words.x) * f32(scale) * (quants - 32.0);
}

fn weight_quad(row: u32, quad: u32, quads_per_row: u32) -> vec4f {
    return weight_values(weight_words(row, quad, quads_per_row), quad);
}
