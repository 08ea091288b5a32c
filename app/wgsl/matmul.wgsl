// matmul, any strides, for the thin products of LoRA:
//   u = scale * x AT     du = scale * dy B     dA += duT x     dB += dyT u
// Each invocation makes 4 x 4 results and sums over k in order, so the bits do not depend on the device's scheduling.
// include: matmul_bindings.wgsl

@compute @workgroup_size(8, 8)
fn multiply(@builtin(global_invocation_id) id: vec3u) {
    let p = product_of(id.z);
    let row0 = id.y * 4u;
    let column0 = id.x * 4u;
    if (row0 >= p.m || column0 >= params.n) { return; }
    // Clamped, not skipped: reads past the edge repeat the last row or column and are not stored.
    let rows = min(vec4u(row0) + vec4u(0u, 1u, 2u, 3u), vec4u(p.m - 1u)) * p.a_row + p.a_offset;
    let columns = min(vec4u(column0) + vec4u(0u, 1u, 2u, 3u), vec4u(params.n - 1u)) * params.b_column + p.b_offset;
    var acc: array<vec4f, 4>;
    for (var k = 0u; k < p.k; k++) {
        let ka = k * p.a_column;
        let kb = k * params.b_row;
        let factor = vec4f(b[kb + columns.x], b[kb + columns.y], b[kb + columns.z], b[kb + columns.w]);
        acc[0] += a[ka + rows.x] * factor;
        acc[1] += a[ka + rows.y] * factor;
        acc[2] += a[ka + rows.z] * factor;
        acc[3] += a[ka + rows.w] * factor;
    }
    let alpha = params.alpha * select(1.0, step.strength, params.use_strength == 1u);
    for (var i = 0u; i < 4u && row0 + i < p.m; i++) {
        for (var j = 0u; j < 4u && column0 + j < params.n; j++) {
            let at = p.c_offset + (row0 + i) * params.c_row + column0 + j;
            if (params.accumulate == 1u) { c[at] += alpha * acc[i][j]; } else { c[at] = alpha * acc[i][j]; }
        }
    }
}
