// embedding:  x[t, :] = scale * weight[token[t], :]
// token: (rows)   x: (rows, C), written with `=`. The embedding is frozen: there is no backward.
// `weight` may be `count` rows of the table from `first` on: then tokens of other rows are left as they are.
struct Params { rows: u32, quads_per_row: u32, scale: f32, first: u32, count: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(3) var<storage, read> tokens: array<u32>;
@group(0) @binding(4) var<storage, read_write> x: array<vec4f>;

@compute @workgroup_size(64)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32,
           @builtin(num_workgroups) groups: vec3u) {
    let row = group.y * groups.x + group.x;
    if (row >= params.rows) { return; }
    let token = tokens[row] - params.first;   // one before it wraps round, and is not there either
    if (token >= params.count) { return; }
    for (var quad = lane; quad < params.quads_per_row; quad += 64u) {
        x[row * params.quads_per_row + quad] = params.scale * weight_quad(token, quad, params.quads_per_row);
    }
}
