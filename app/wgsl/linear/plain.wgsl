// linear, for devices where workgroup memory is no faster than memory (software adapters). Same contract as linear/tiled.wgsl.
// Each invocation makes an 8 x 8 patch of the result straight from memory. Written out row by row: software adapters
// keep arrays in memory, and named values in registers.
// include: linear/bindings.wgsl

const CHAIN = 1024u;  // terms of one sum; more are added up in memory, or a large total would lose what small terms add

// Stores four results of a row at `at`, as far as the row is real and `count` goes.
fn store4(real: bool, at: u32, count: u32, value: vec4f, mode: u32) {
    if (real) {
        for (var j = 0u; j < min(count, 4u); j++) {
            let old = select(y[at + j], residual[at + j], mode == 2u);
            y[at + j] = value[j] + select(0.0, old, mode > 0u);
        }
    }
}

fn dots(a: vec4f, b0: vec4f, b1: vec4f, b2: vec4f, b3: vec4f) -> vec4f {
    return vec4f(dot(a, b0), dot(a, b1), dot(a, b2), dot(a, b3));
}

fn lora_in_at(row: u32, r: u32) -> f32 { return lora_in[row * params.rank_total + r]; }

// Four values of the adapter's right factor for rank r: B's rows in forward, A's columns in backward.
fn lora_columns(column: u32, r: u32) -> vec4f {
    let last = params.columns - 1u;
    let at = params.lora_row0 * params.rank + r;
    return vec4f(lora_weight[at + min(column, last) * params.rank], lora_weight[at + min(column + 1u, last) * params.rank],
                 lora_weight[at + min(column + 2u, last) * params.rank], lora_weight[at + min(column + 3u, last) * params.rank]);
}

fn lora_row(column: u32, r: u32) -> vec4f {
    let at = r * params.columns + column;
    return vec4f(lora_weight[at], lora_weight[at + 1u], lora_weight[at + 2u], lora_weight[at + 3u]);
}

@compute @workgroup_size(8, 8)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) local: vec3u) {
    let rows = active_rows();
    let row0 = (group.y * 8u + local.y) * 8u;
    let column0 = (group.x * 8u + local.x) * 8u;
    if (row0 >= rows || column0 >= params.columns) { return; }
    // Clamped, not skipped: reads past the edge repeat the last row or column and are not stored.
    let r0 = min(row0 + 0u, rows - 1u);
    let r1 = min(row0 + 1u, rows - 1u);
    let r2 = min(row0 + 2u, rows - 1u);
    let r3 = min(row0 + 3u, rows - 1u);
    let r4 = min(row0 + 4u, rows - 1u);
    let r5 = min(row0 + 5u, rows - 1u);
    let r6 = min(row0 + 6u, rows - 1u);
    let r7 = min(row0 + 7u, rows - 1u);
    var l0 = vec4f(0.0);
    var h0 = vec4f(0.0);
    var l1 = vec4f(0.0);
    var h1 = vec4f(0.0);
    var l2 = vec4f(0.0);
    var h2 = vec4f(0.0);
    var l3 = vec4f(0.0);
    var h3 = vec4f(0.0);
    var l4 = vec4f(0.0);
    var h4 = vec4f(0.0);
    var l5 = vec4f(0.0);
    var h5 = vec4f(0.0);
    var l6 = vec4f(0.0);
    var h6 = vec4f(0.0);
    var l7 = vec4f(0.0);
    var h7 = vec4f(0.0);
    let quads = params.inner / 4u;
    let last = params.columns - 1u;
    for (var quad = 0u; quad < quads; quad++) {
        let a0 = x[r0 * quads + quad];
        let a1 = x[r1 * quads + quad];
        let a2 = x[r2 * quads + quad];
        let a3 = x[r3 * quads + quad];
        let a4 = x[r4 * quads + quad];
        let a5 = x[r5 * quads + quad];
        let a6 = x[r6 * quads + quad];
        let a7 = x[r7 * quads + quad];
        let lw0 = weight_quad(params.weight_row0 + min(column0 + 0u, last), quad, quads);
        let lw1 = weight_quad(params.weight_row0 + min(column0 + 1u, last), quad, quads);
        let lw2 = weight_quad(params.weight_row0 + min(column0 + 2u, last), quad, quads);
        let lw3 = weight_quad(params.weight_row0 + min(column0 + 3u, last), quad, quads);
        l0 += dots(a0, lw0, lw1, lw2, lw3);
        l1 += dots(a1, lw0, lw1, lw2, lw3);
        l2 += dots(a2, lw0, lw1, lw2, lw3);
        l3 += dots(a3, lw0, lw1, lw2, lw3);
        l4 += dots(a4, lw0, lw1, lw2, lw3);
        l5 += dots(a5, lw0, lw1, lw2, lw3);
        l6 += dots(a6, lw0, lw1, lw2, lw3);
        l7 += dots(a7, lw0, lw1, lw2, lw3);
        let hw0 = weight_quad(params.weight_row0 + min(column0 + 4u, last), quad, quads);
        let hw1 = weight_quad(params.weight_row0 + min(column0 + 5u, last), quad, quads);
        let hw2 = weight_quad(params.weight_row0 + min(column0 + 6u, last), quad, quads);
        let hw3 = weight_quad(params.weight_row0 + min(column0 + 7u, last), quad, quads);
        h0 += dots(a0, hw0, hw1, hw2, hw3);
        h1 += dots(a1, hw0, hw1, hw2, hw3);
        h2 += dots(a2, hw0, hw1, hw2, hw3);
        h3 += dots(a3, hw0, hw1, hw2, hw3);
        h4 += dots(a4, hw0, hw1, hw2, hw3);
        h5 += dots(a5, hw0, hw1, hw2, hw3);
        h6 += dots(a6, hw0, hw1, hw2, hw3);
        h7 += dots(a7, hw0, hw1, hw2, hw3);
    }
    let near = layer_of(column0);
    let far = layer_of(min(column0 + 4u, last));
    let near0 = params.rank0 + near.index * params.rank;
    let far0 = params.rank0 + far.index * params.rank;
    let near_at = near.base + column0 - near.start;
    let far_at = far.base + column0 + 4u - far.start;
    let count = params.columns - column0;
    let far_count = max(count, 4u) - 4u;
    let mode = params.accumulate;
    for (var r = 0u; r < params.rank; r++) {
        let left = lora_columns(column0, r);
        let right = lora_columns(column0 + 4u, r);
        l0 += lora_in_at(r0, near0 + r) * left;
        h0 += lora_in_at(r0, far0 + r) * right;
        l1 += lora_in_at(r1, near0 + r) * left;
        h1 += lora_in_at(r1, far0 + r) * right;
        l2 += lora_in_at(r2, near0 + r) * left;
        h2 += lora_in_at(r2, far0 + r) * right;
        l3 += lora_in_at(r3, near0 + r) * left;
        h3 += lora_in_at(r3, far0 + r) * right;
        l4 += lora_in_at(r4, near0 + r) * left;
        h4 += lora_in_at(r4, far0 + r) * right;
        l5 += lora_in_at(r5, near0 + r) * left;
        h5 += lora_in_at(r5, far0 + r) * right;
        l6 += lora_in_at(r6, near0 + r) * left;
        h6 += lora_in_at(r6, far0 + r) * right;
        l7 += lora_in_at(r7, near0 + r) * left;
        h7 += lora_in_at(r7, far0 + r) * right;
    }
    store4(row0 + 0u < rows, near_at + (row0 + 0u) * near.width, count, l0, mode);
    store4(row0 + 0u < rows, far_at + (row0 + 0u) * far.width, far_count, h0, mode);
    store4(row0 + 1u < rows, near_at + (row0 + 1u) * near.width, count, l1, mode);
    store4(row0 + 1u < rows, far_at + (row0 + 1u) * far.width, far_count, h1, mode);
    store4(row0 + 2u < rows, near_at + (row0 + 2u) * near.width, count, l2, mode);
    store4(row0 + 2u < rows, far_at + (row0 + 2u) * far.width, far_count, h2, mode);
    store4(row0 + 3u < rows, near_at + (row0 + 3u) * near.width, count, l3, mode);
    store4(row0 + 3u < rows, far_at + (row0 + 3u) * far.width, far_count, h3, mode);
    store4(row0 + 4u < rows, near_at + (row0 + 4u) * near.width, count, l4, mode);
    store4(row0 + 4u < rows, far_at + (row0 + 4u) * far.width, far_count, h4, mode);
    store4(row0 + 5u < rows, near_at + (row0 + 5u) * near.width, count, l5, mode);
    store4(row0 + 5u < rows, far_at + (row0 + 5u) * far.width, far_count, h5, mode);
    store4(row0 + 6u < rows, near_at + (row0 + 6u) * near.width, count, l6, mode);
    store4(row0 + 6u < rows, far_at + (row0 + 6u) * far.width, far_count, h6, mode);
    store4(row0 + 7u < rows, near_at + (row0 + 7u) * near.width, count, l7, mode);
    store4(row0 + 7u < rows, far_at + (row0 + 7u) * far.width, far_count, h7, mode);
}

@compute @workgroup_size(8, 8)
fn backward(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) local: vec3u) {
    let rows = active_rows();
    let row0 = (group.y * 8u + local.y) * 8u;
    let column0 = (group.x * 8u + local.x) * 8u;
    if (row0 >= rows || column0 >= params.columns) { return; }
    // Clamped, not skipped: reads past the edge repeat the last row or column and are not stored.
    let r0 = min(row0 + 0u, rows - 1u);
    let r1 = min(row0 + 1u, rows - 1u);
    let r2 = min(row0 + 2u, rows - 1u);
    let r3 = min(row0 + 3u, rows - 1u);
    let r4 = min(row0 + 4u, rows - 1u);
    let r5 = min(row0 + 5u, rows - 1u);
    let r6 = min(row0 + 6u, rows - 1u);
    let r7 = min(row0 + 7u, rows - 1u);
    let quads = params.columns / 4u;
    let count = params.columns - column0;
    let far_count = max(count, 4u) - 4u;
    let quad0 = column0 / 4u;
    let quad1 = min(quad0 + 1u, quads - 1u);
    for (var start = 0u; start < params.inner; start += CHAIN) {
        var l0 = vec4f(0.0);
        var h0 = vec4f(0.0);
        var l1 = vec4f(0.0);
        var h1 = vec4f(0.0);
        var l2 = vec4f(0.0);
        var h2 = vec4f(0.0);
        var l3 = vec4f(0.0);
        var h3 = vec4f(0.0);
        var l4 = vec4f(0.0);
        var h4 = vec4f(0.0);
        var l5 = vec4f(0.0);
        var h5 = vec4f(0.0);
        var l6 = vec4f(0.0);
        var h6 = vec4f(0.0);
        var l7 = vec4f(0.0);
        var h7 = vec4f(0.0);
        for (var n = start; n < min(start + CHAIN, params.inner); n++) {
            let layer = layer_of(n);
            let base = layer.base + n - layer.start;
            let left = weight_quad(params.weight_row0 + n, quad0, quads);
            let right = weight_quad(params.weight_row0 + n, quad1, quads);
            let a0 = dy[base + r0 * layer.width];
            l0 += a0 * left;
            h0 += a0 * right;
            let a1 = dy[base + r1 * layer.width];
            l1 += a1 * left;
            h1 += a1 * right;
            let a2 = dy[base + r2 * layer.width];
            l2 += a2 * left;
            h2 += a2 * right;
            let a3 = dy[base + r3 * layer.width];
            l3 += a3 * left;
            h3 += a3 * right;
            let a4 = dy[base + r4 * layer.width];
            l4 += a4 * left;
            h4 += a4 * right;
            let a5 = dy[base + r5 * layer.width];
            l5 += a5 * left;
            h5 += a5 * right;
            let a6 = dy[base + r6 * layer.width];
            l6 += a6 * left;
            h6 += a6 * right;
            let a7 = dy[base + r7 * layer.width];
            l7 += a7 * left;
            h7 += a7 * right;
        }
        for (var r = 0u; r < select(params.rank_total, 0u, start > 0u); r++) {
            let left = lora_row(column0, r);
            let right = lora_row(quad1 * 4u, r);
            let u0 = lora_in_at(r0, r);
            l0 += u0 * left;
            h0 += u0 * right;
            let u1 = lora_in_at(r1, r);
            l1 += u1 * left;
            h1 += u1 * right;
            let u2 = lora_in_at(r2, r);
            l2 += u2 * left;
            h2 += u2 * right;
            let u3 = lora_in_at(r3, r);
            l3 += u3 * left;
            h3 += u3 * right;
            let u4 = lora_in_at(r4, r);
            l4 += u4 * left;
            h4 += u4 * right;
            let u5 = lora_in_at(r5, r);
            l5 += u5 * left;
            h5 += u5 * right;
            let u6 = lora_in_at(r6, r);
            l6 += u6 * left;
            h6 += u6 * right;
            let u7 = lora_in_at(r7, r);
            l7 += u7 * left;
            h7 += u7 * right;
        }
        let mode = select(params.accumulate, 1u, start > 0u);
        store4(row0 + 0u < rows, (row0 + 0u) * params.columns + column0, count, l0, mode);
        store4(row0 + 0u < rows, (row0 + 0u) * params.columns + column0 + 4u, far_count, h0, mode);
        store4(row0 + 1u < rows, (row0 + 1u) * params.columns + column0, count, l1, mode);
        store4(row0 + 1u < rows, (row0 + 1u) * params.columns + column0 + 4u, far_count, h1, mode);
        store4(row0 + 2u < rows, (row0 + 2u) * params.columns + column0, count, l2, mode);
        store4(row0 + 2u < rows, (row0 + 2u) * params.columns + column0 + 4u, far_count, h2, mode);
        store4(row0 + 3u < rows, (row0 + 3u) * params.columns + column0, count, l3, mode);
        store4(row0 + 3u < rows, (row0 + 3u) * params.columns + column0 + 4u, far_count, h3, mode);
        store4(row0 + 4u < rows, (row0 + 4u) * params.columns + column0, count, l4, mode);
        store4(row0 + 4u < rows, (row0 + 4u) * params.columns + column0 + 4u, far_count, h4, mode);
        store4(row0 + 5u < rows, (row0 + 5u) * params.columns + column0, count, l5, mode);
        store4(row0 + 5u < rows, (row0 + 5u) * params.columns + column0 + 4u, far_count, h5, mode);
        store4(row0 + 6u < rows, (row0 + 6u) * params.columns + column0, count, l6, mode);
        store4(row0 + 6u < rows, (row0 + 6u) * params.columns + column0 + 4u, far_count, h6, mode);
        store4(row0 + 7u < rows, (row0 + 7u) * params.columns + column0, count, l7, mode);
        store4(row0 + 7u < rows, (row0 + 7u) * params.columns + column0 + 4u, far_count, h7, mode);
    }
}
