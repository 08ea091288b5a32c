// attention's backward, first pass:  delta[i] = dout[i] . out[i]   for every row and head
// dout, out: (rows, H * D)   delta_out: (rows, H)   HEAD_QUADS = D / 4 is given by the op.
struct Params { rows: u32, heads: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read> dout: array<vec4f>;
@group(0) @binding(3) var<storage, read> out: array<vec4f>;
@group(0) @binding(4) var<storage, read_write> delta_out: array<f32>;

@compute @workgroup_size(64)
fn row_delta(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32,
             @builtin(num_workgroups) groups: vec3u) {
    let i = (group.y * groups.x + group.x) * 64u + lane;  // row * heads + head
    if (i >= params.rows * params.heads) { return; }
    var sum = 0.0;
    for (var d = 0u; d < HEAD_QUADS; d++) { sum += dot(dout[i * HEAD_QUADS + d], out[i * HEAD_QUADS + d]); }
    delta_out[i] = sum;
}
