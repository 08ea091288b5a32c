// matmul, any strides, for the thin products of LoRA:
//   u = scale * x AT     du = scale * dy B     dA += duT x     dB += dyT u
// Each invocation makes 4 x 4 results and sums over k in order, so the bits do not depend on the device's scheduling.
// include: matmul/bindings.wgsl

@compute @workgroup_size(8, 8)
fn multiply(@builtin(global_invocation_id) id: vec3u) {
    let p = product_of(id.z);
    let row0 = id.y * 4u;
    let column0 = id.x * 4u;
    if (row0 >= p.m || column0 >= p.n) { return; }
    // Clamped, not skipped: reads past the edge repeat the last row or column and are not stored.
    let rows = min(vec4u(row0) + vec4u(0u, 1u, 2u, 3u), vec4u(p.m - 1u)) * p.a_row + p.a_offset;
    let columns = min(vec4u(column0) + vec4u(0u, 1u, 2u, 3u), vec4u(p.n - 1u)) * p.b_column + p.b_offset;
    let second = p.second == 1u;
    var acc: array<vec4f, 4>;
    for (var k = 0u; k < p.k; k++) {
        let ka = k * p.a_column;
        let kb = k * p.b_row;
        let factor = vec4f(b_at(second, kb + columns.x), b_at(second, kb + columns.y), b_at(second, kb + columns.z),
                           b_at(second, kb + columns.w));
        acc[0] += a_at(second, ka + rows.x) * factor;
        acc[1] += a_at(second, ka + rows.y) * factor;
        acc[2] += a_at(second, ka + rows.z) * factor;
        acc[3] += a_at(second, ka + rows.w) * factor;
    }
    let alpha = params.alpha * select(1.0, step.strength, params.use_strength == 1u);
    for (var i = 0u; i < 4u && row0 + i < p.m; i++) {
        for (var j = 0u; j < 4u && column0 + j < p.n; j++) {
            let at = p.c_offset + (row0 + i) * p.c_row + (column0 + j) * p.c_column;
            if (params.accumulate == 1u) { c[at] += alpha * acc[i][j]; } else { c[at] = alpha * acc[i][j]; }
        }
    }
}
