// attention's backward, first pass:  delta[i] = dout[i] . out[i]   for every row and head
// dout, out: (rows, H * D)   lse: (rows, H)   statistics: (rows, H, 2), lse and delta side by side: apart they would make
// nine buffers in the last pass, and WebGPU promises eight. HEAD_QUADS = D / 4 and SHARES are given by the op.
// The last pass subtracts delta from such products of its own. It makes them in SHARES sums, of every SHARES-th quad: so does
// this, in the same order, and what is equal cancels to the bit.
struct Params { rows: u32, heads: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read> dout: array<vec4f>;
@group(0) @binding(3) var<storage, read> out: array<vec4f>;
@group(0) @binding(4) var<storage, read> lse: array<f32>;
@group(0) @binding(5) var<storage, read_write> statistics: array<vec2f>;

@compute @workgroup_size(64)
fn row_delta(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32,
             @builtin(num_workgroups) groups: vec3u) {
    let i = (group.y * groups.x + group.x) * 64u + lane;  // row * heads + head
    if (i >= params.rows * params.heads) { return; }
    var delta = 0.0;
    for (var share = 0u; share < SHARES; share++) {
        var sum = 0.0;
        for (var d = share; d < HEAD_QUADS; d += SHARES) { sum += dot(dout[i * HEAD_QUADS + d], out[i * HEAD_QUADS + d]); }
        delta += sum;
    }
    statistics[i] = vec2f(lse[i], delta);
}
