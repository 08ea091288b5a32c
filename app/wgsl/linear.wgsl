// linear, for GPUs: tiles of 64 x 64 through workgroup memory, 256 invocations of 4 x 4 results each.
// include: linear_bindings.wgsl
const TILE = 64u;     // rows and columns of a tile
const DEPTH = 16u;    // of the inner sum, per trip
const PITCH = 68u;    // TILE + 4: neighbouring depths fall into different banks

var<workgroup> left: array<f32, 1088>;   // DEPTH x PITCH, depth-major
var<workgroup> right: array<f32, 1088>;

// Adds left (DEPTH x 64) times right (DEPTH x 64) to a 4 x 4 patch.
fn multiply_tile(acc: ptr<function, array<vec4f, 4>>, row: u32, column: u32) {
    for (var k = 0u; k < DEPTH; k++) {
        let a = k * PITCH + row;
        let b = k * PITCH + column;
        let factor = vec4f(right[b], right[b + 1u], right[b + 2u], right[b + 3u]);
        (*acc)[0] += left[a] * factor;
        (*acc)[1] += left[a + 1u] * factor;
        (*acc)[2] += left[a + 2u] * factor;
        (*acc)[3] += left[a + 3u] * factor;
    }
}

// The adapter's share: lora_in (rows, R) times lora_weight, (columns, R) in forward and (R, columns) in backward.
fn multiply_lora(acc: ptr<function, array<vec4f, 4>>, lane: u32, rows: u32, row0: u32, column0: u32, by_column: bool) {
    for (var r0 = 0u; r0 < params.rank; r0 += DEPTH) {
        workgroupBarrier();
        for (var i = lane; i < TILE * DEPTH; i += 256u) {
            let k = i % DEPTH;
            let line = i / DEPTH;
            let r = r0 + k;
            var a = 0.0;
            if (row0 + line < rows && r < params.rank) { a = lora_in[(row0 + line) * params.rank + r]; }
            left[k * PITCH + line] = a;
            var b = 0.0;
            if (by_column) {
                if (column0 + line < params.columns && r < params.rank) {
                    b = lora_weight[(column0 + line) * params.rank + r];
                }
                right[k * PITCH + line] = b;
            } else {
                let k2 = i / TILE;
                let column = column0 + i % TILE;
                if (column < params.columns && r0 + k2 < params.rank) { b = lora_weight[(r0 + k2) * params.columns + column]; }
                right[k2 * PITCH + i % TILE] = b;
            }
        }
        workgroupBarrier();
        multiply_tile(acc, (lane / 16u) * 4u, (lane % 16u) * 4u);
    }
}

fn store_patch(acc: ptr<function, array<vec4f, 4>>, rows: u32, row0: u32, column0: u32) {
    for (var i = 0u; i < 4u; i++) {
        if (row0 + i >= rows) { return; }
        for (var j = 0u; j < 4u; j++) {
            if (column0 + j >= params.columns) { break; }
            let at = (row0 + i) * params.columns + column0 + j;
            if (params.accumulate == 1u) { y[at] += (*acc)[i][j]; } else { y[at] = (*acc)[i][j]; }
        }
    }
}

@compute @workgroup_size(256)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let rows = active_rows();
    let row0 = group.y * TILE;
    let column0 = group.x * TILE;
    if (row0 >= rows) { return; }
    let quads = params.inner / 4u;
    let line = lane / 4u;   // this invocation loads quad lane % 4 of row and column `line`
    let part = lane % 4u;
    var acc: array<vec4f, 4>;
    for (var k0 = 0u; k0 < params.inner; k0 += DEPTH) {
        let quad = k0 / 4u + part;
        var a = vec4f(0.0);
        if (row0 + line < rows && quad < quads) { a = x[(row0 + line) * quads + quad]; }
        var b = vec4f(0.0);
        if (column0 + line < params.columns && quad < quads) { b = weight_quad(column0 + line, quad, quads); }
        workgroupBarrier();
        for (var i = 0u; i < 4u; i++) {
            left[(part * 4u + i) * PITCH + line] = a[i];
            right[(part * 4u + i) * PITCH + line] = b[i];
        }
        workgroupBarrier();
        multiply_tile(&acc, (lane / 16u) * 4u, (lane % 16u) * 4u);
    }
    multiply_lora(&acc, lane, rows, row0, column0, true);
    store_patch(&acc, rows, row0 + (lane / 16u) * 4u, column0 + (lane % 16u) * 4u);
}

@compute @workgroup_size(256)
fn backward(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let rows = active_rows();
    let row0 = group.y * TILE;
    let column0 = group.x * TILE;
    if (row0 >= rows) { return; }
    let quads = params.columns / 4u;
    var acc: array<vec4f, 4>;
    for (var n0 = 0u; n0 < params.inner; n0 += DEPTH) {
        // dy: 64 rows x 16 values of the sum; weight: 16 of its rows x 16 quads of columns.
        var a: vec4f;
        for (var i = 0u; i < 4u; i++) {
            let n = n0 + lane % 16u;
            let row = row0 + lane / 16u + i * 16u;
            a[i] = 0.0;
            if (row < rows && n < params.inner) { a[i] = dy[row * params.inner + n]; }
        }
        let k = lane / 16u;
        let quad = column0 / 4u + lane % 16u;
        var b = vec4f(0.0);
        if (n0 + k < params.inner && quad < quads) { b = weight_quad(n0 + k, quad, quads); }
        workgroupBarrier();
        for (var i = 0u; i < 4u; i++) {
            left[(lane % 16u) * PITCH + lane / 16u + i * 16u] = a[i];
            right[k * PITCH + (lane % 16u) * 4u + i] = b[i];
        }
        workgroupBarrier();
        multiply_tile(&acc, (lane / 16u) * 4u, (lane % 16u) * 4u);
    }
    multiply_lora(&acc, lane, rows, row0, column0, false);
    store_patch(&acc, rows, row0 + (lane / 16u) * 4u, column0 + (lane % 16u) * 4u);
}
