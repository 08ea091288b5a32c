// linear, for devices where workgroup memory is no faster than memory (software adapters). Same contract as linear.wgsl.
// Each invocation makes an 8 x 8 patch of the result straight from memory.
// include: linear_bindings.wgsl

fn store(row: u32, column: u32, value: f32) {
    let at = row * params.columns + column;
    if (params.accumulate == 1u) { y[at] += value; } else { y[at] = value; }
}

@compute @workgroup_size(8, 8)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) local: vec3u) {
    let rows = active_rows();
    let row0 = (group.y * 8u + local.y) * 8u;
    let column0 = (group.x * 8u + local.x) * 8u;
    if (row0 >= rows || column0 >= params.columns) { return; }
    let quads = params.inner / 4u;
    var acc: array<array<f32, 8>, 8>;
    for (var quad = 0u; quad < quads; quad++) {
        var a: array<vec4f, 8>;
        for (var i = 0u; i < 8u; i++) { a[i] = x[min(row0 + i, rows - 1u) * quads + quad]; }
        for (var j = 0u; j < 8u; j++) {
            let b = weight_quad(min(column0 + j, params.columns - 1u), quad, quads);
            for (var i = 0u; i < 8u; i++) { acc[i][j] += dot(a[i], b); }
        }
    }
    for (var r = 0u; r < params.rank; r++) {
        for (var j = 0u; j < 8u; j++) {
            let b = lora_weight[min(column0 + j, params.columns - 1u) * params.rank + r];
            for (var i = 0u; i < 8u; i++) { acc[i][j] += lora_in[min(row0 + i, rows - 1u) * params.rank + r] * b; }
        }
    }
    for (var i = 0u; i < 8u && row0 + i < rows; i++) {
        for (var j = 0u; j < 8u && column0 + j < params.columns; j++) { store(row0 + i, column0 + j, acc[i][j]); }
    }
}

@compute @workgroup_size(8, 8)
fn backward(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) local: vec3u) {
    let rows = active_rows();
    let row0 = (group.y * 8u + local.y) * 8u;
    let quad0 = (group.x * 8u + local.x) * 2u;
    let quads = params.columns / 4u;
    if (row0 >= rows || quad0 >= quads) { return; }
    let quad1 = min(quad0 + 1u, quads - 1u);
    var acc: array<array<vec4f, 2>, 8>;
    for (var n = 0u; n < params.inner; n++) {
        let left = weight_quad(n, quad0, quads);
        let right = weight_quad(n, quad1, quads);
        for (var i = 0u; i < 8u; i++) {
            let a = dy[min(row0 + i, rows - 1u) * params.inner + n];
            acc[i][0] += a * left;
            acc[i][1] += a * right;
        }
    }
    for (var r = 0u; r < params.rank; r++) {
        for (var q = 0u; q < 2u; q++) {
            let at = r * params.columns + min(quad0 + q, quad1) * 4u;
            let b = vec4f(lora_weight[at], lora_weight[at + 1u], lora_weight[at + 2u], lora_weight[at + 3u]);
            for (var i = 0u; i < 8u; i++) { acc[i][q] += lora_in[min(row0 + i, rows - 1u) * params.rank + r] * b; }
        }
    }
    for (var i = 0u; i < 8u && row0 + i < rows; i++) {
        for (var q = 0u; q < 2u && quad0 + q < quads; q++) {
            for (var c = 0u; c < 4u; c++) { store(row0 + i, (quad0 + q) * 4u + c, acc[i][q][c]); }
        }
    }
}
