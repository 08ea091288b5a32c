// GGUF Q8_0: blocks of 32 columns, w = scale * quant. On the GPU a block is 9 words: the scale (f16, low half), then
// 32 signed bytes. The file's blocks of 34 bytes are widened to this at load.
@group(0) @binding(2) var<storage, read> weight: array<u32>;
fn weight_quad(row: u32, quad: u32, quads_per_row: u32) -> vec4f {
    let block = (row * (quads_per_row >> 3u) + (quad >> 3u)) * 9u;
    let packed = bitcast<i32>(weight[block + 1u + (quad & 7u)]);
    let quants = vec4i(packed << 24u, packed << 16u, packed << 8u, packed) >> vec4u(24u);
    return unpack2x16float(weight[block]).x * vec4f(quants);
}
