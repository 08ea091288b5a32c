// linear, for GPUs: tiles of TILE_ROWS (64 or 32) x 64 through workgroup memory.
// Sixty-four invocations make a tile, each TILE_ROWS / 8 rows by 8 columns of it. Where tiles are too few to fill a GPU
// the inner sum is split among SLICES such groups, whose results are added in order: the bits depend on the constants
// (given by the op from the shape alone), not on the device's scheduling.
// The patch is sixteen named vectors, rows 0-7 by (near, far) columns: arrays that compilers do not unroll would go to
// memory, ten times slower. With TILE_ROWS = 32 rows 4-7 are never used and cost nothing.
// include: linear_bindings.wgsl
const TILE_COLUMNS = 64u;
const DEPTH = 8u;                         // of the inner sum, per trip and slice
const PITCH_LEFT = TILE_ROWS + 4u;        // depth-major; the padding spreads neighbouring depths over the banks
const PITCH_RIGHT = TILE_COLUMNS + 4u;
const LANES = 64u;
const SPAN = DEPTH * SLICES;              // of the inner sum, per trip of all slices
const TALL = TILE_ROWS > 32u;

var<workgroup> left: array<f32, SLICES * DEPTH * PITCH_LEFT>;
var<workgroup> right: array<f32, SLICES * DEPTH * PITCH_RIGHT>;
var<workgroup> sums: array<vec4f, SLICES * LANES>;

fn store4(y0: u32, rows: u32, row: u32, column: u32, value: vec4f) {
    if (row >= rows || column >= params.columns) { return; }
    let at = y0 + row * params.columns + column;
    let old = params.accumulate == 1u;
    let left_over = params.columns - column;
    y[at] = value.x + select(0.0, y[at], old);
    if (left_over > 1u) { y[at + 1u] = value.y + select(0.0, y[at + 1u], old); }
    if (left_over > 2u) { y[at + 2u] = value.z + select(0.0, y[at + 2u], old); }
    if (left_over > 3u) { y[at + 3u] = value.w + select(0.0, y[at + 3u], old); }
}

// Adds the slices' vectors in order; the sum is right in slice 0.
fn fold(value: vec4f, slice: u32, lane: u32) -> vec4f {
    if (SLICES == 1u) { return value; }
    workgroupBarrier();
    sums[slice * LANES + lane] = value;
    workgroupBarrier();
    var total = sums[lane];
    for (var s = 1u; s < SLICES; s++) { total += sums[s * LANES + lane]; }
    return total;
}

// The adapter's tiles: lora_in (rows, R), and lora_weight, (columns, R) in forward and (R, columns) in backward. The
// slices take turns through R as they do through the weight's sum.
fn load_lora(r_slice: u32, depth0: u32, lane: u32, rows: u32, row0: u32, column0: u32, by_column: bool) {
    for (var i = lane; i < TILE_ROWS * DEPTH; i += LANES) {
        let r = r_slice + i / TILE_ROWS;
        let row = row0 + i % TILE_ROWS;
        var a = 0.0;
        if (row < rows && r < params.rank) { a = lora_in[row * params.rank + r]; }
        left[(depth0 + i / TILE_ROWS) * PITCH_LEFT + i % TILE_ROWS] = a;
    }
    for (var i = lane; i < TILE_COLUMNS * DEPTH; i += LANES) {
        let r = r_slice + i / TILE_COLUMNS;
        let column = column0 + i % TILE_COLUMNS;
        var b = 0.0;
        if (column < params.columns && r < params.rank) {
            b = lora_weight[select(r * params.columns + column, column * params.rank + r, by_column)];
        }
        right[(depth0 + i / TILE_COLUMNS) * PITCH_RIGHT + i % TILE_COLUMNS] = b;
    }
}

// Four depths of one row of the left factor.
fn put_left(depth: u32, line: u32, value: vec4f) {
    let at = depth * PITCH_LEFT + line;
    left[at] = value.x;
    left[at + PITCH_LEFT] = value.y;
    left[at + 2u * PITCH_LEFT] = value.z;
    left[at + 3u * PITCH_LEFT] = value.w;
}

// What one trip takes from memory, in registers: eight depths of one row, and two quads of the weight.
struct Load { a0: vec4f, a1: vec4f, b0: vec4f, b1: vec4f }

// Depths k .. k + 7 (those below `end`) of row row0 + lane of x, and of row column0 + lane of the weight.
fn load_forward(k: u32, end: u32, lane: u32, rows: u32, row0: u32, column0: u32) -> Load {
    let quads = params.inner / 4u;
    let quad = k / 4u;
    var next: Load;
    if (lane < TILE_ROWS && row0 + lane < rows) {
        if (k < end) { next.a0 = x[(row0 + lane) * quads + quad]; }
        if (k + 4u < end) { next.a1 = x[(row0 + lane) * quads + quad + 1u]; }
    }
    if (column0 + lane < params.columns) {
        if (k < end) { next.b0 = weight_quad(column0 + lane, quad, quads); }
        if (k + 4u < end) { next.b1 = weight_quad(column0 + lane, quad + 1u, quads); }
    }
    return next;
}

fn put_right_forward(depth0: u32, lane: u32, b0: vec4f, b1: vec4f) {
    let at = depth0 * PITCH_RIGHT + lane;
    right[at] = b0.x;
    right[at + PITCH_RIGHT] = b0.y;
    right[at + 2u * PITCH_RIGHT] = b0.z;
    right[at + 3u * PITCH_RIGHT] = b0.w;
    right[at + 4u * PITCH_RIGHT] = b1.x;
    right[at + 5u * PITCH_RIGHT] = b1.y;
    right[at + 6u * PITCH_RIGHT] = b1.z;
    right[at + 7u * PITCH_RIGHT] = b1.w;
}

// Depths k .. k + 7 of row row0 + lane of dy, and of the weight's rows two of those depths, one quad of columns each.
fn load_backward(k: u32, end: u32, lane: u32, rows: u32, row0: u32, column0: u32) -> Load {
    var next: Load;
    let count = max(end, k) - k;
    if (lane < TILE_ROWS && row0 + lane < rows) {
        let at = (row0 + lane) * params.inner + k;
        if (count > 7u) {
            next.a0 = vec4f(dy[at], dy[at + 1u], dy[at + 2u], dy[at + 3u]);
            next.a1 = vec4f(dy[at + 4u], dy[at + 5u], dy[at + 6u], dy[at + 7u]);
        } else {
            if (count > 0u) { next.a0.x = dy[at]; }
            if (count > 1u) { next.a0.y = dy[at + 1u]; }
            if (count > 2u) { next.a0.z = dy[at + 2u]; }
            if (count > 3u) { next.a0.w = dy[at + 3u]; }
            if (count > 4u) { next.a1.x = dy[at + 4u]; }
            if (count > 5u) { next.a1.y = dy[at + 5u]; }
            if (count > 6u) { next.a1.z = dy[at + 6u]; }
        }
    }
    let quads = params.columns / 4u;
    let quad = column0 / 4u + lane % 16u;
    let depth = lane / 16u;
    if (quad < quads) {
        if (depth < count) { next.b0 = weight_quad(k + depth, quad, quads); }
        if (depth + 4u < count) { next.b1 = weight_quad(k + depth + 4u, quad, quads); }
    }
    return next;
}

fn put_right_backward(depth0: u32, lane: u32, b0: vec4f, b1: vec4f) {
    let at = (depth0 + lane / 16u) * PITCH_RIGHT + (lane % 16u) * 4u;
    right[at] = b0.x;
    right[at + 1u] = b0.y;
    right[at + 2u] = b0.z;
    right[at + 3u] = b0.w;
    right[at + 4u * PITCH_RIGHT] = b1.x;
    right[at + 4u * PITCH_RIGHT + 1u] = b1.y;
    right[at + 4u * PITCH_RIGHT + 2u] = b1.z;
    right[at + 4u * PITCH_RIGHT + 3u] = b1.w;
}

@compute @workgroup_size(LANES * SLICES)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) index: u32) {
    let rows = active_rows();
    let row0 = group.y * TILE_ROWS;
    let column0 = group.x * TILE_COLUMNS;
    if (row0 >= rows) { return; }
    let lane = index % LANES;
    let slice = index / LANES;
    let depth0 = slice * DEPTH;
    let row = (lane / 8u) * 4u;
    let column = (lane % 8u) * 4u;
    var near0 = vec4f(0.0);
    var far0 = vec4f(0.0);
    var near1 = vec4f(0.0);
    var far1 = vec4f(0.0);
    var near2 = vec4f(0.0);
    var far2 = vec4f(0.0);
    var near3 = vec4f(0.0);
    var far3 = vec4f(0.0);
    var near4 = vec4f(0.0);
    var far4 = vec4f(0.0);
    var near5 = vec4f(0.0);
    var far5 = vec4f(0.0);
    var near6 = vec4f(0.0);
    var far6 = vec4f(0.0);
    var near7 = vec4f(0.0);
    var far7 = vec4f(0.0);
    let begin = group.z * params.part;
    let end = min(begin + params.part, params.inner);
    // The next trip's values are on their way from memory while this trip's are multiplied.
    var next = load_forward(begin + depth0, end, lane, rows, row0, column0);
    for (var k0 = begin; k0 < end; k0 += SPAN) {
        workgroupBarrier();
        if (lane < TILE_ROWS) {
            put_left(depth0, lane, next.a0);
            put_left(depth0 + 4u, lane, next.a1);
        }
        put_right_forward(depth0, lane, next.b0, next.b1);
        workgroupBarrier();
        next = load_forward(k0 + SPAN + depth0, end, lane, rows, row0, column0);
        for (var k = 0u; k < DEPTH; k++) {
            let b = (slice * DEPTH + k) * PITCH_RIGHT + column;
            let near = vec4f(right[b], right[b + 1u], right[b + 2u], right[b + 3u]);
            let far = vec4f(right[b + 32u], right[b + 33u], right[b + 34u], right[b + 35u]);
            let a = (slice * DEPTH + k) * PITCH_LEFT + row;
            let f0 = left[a + 0u];
            near0 += f0 * near;
            far0 += f0 * far;
            let f1 = left[a + 1u];
            near1 += f1 * near;
            far1 += f1 * far;
            let f2 = left[a + 2u];
            near2 += f2 * near;
            far2 += f2 * far;
            let f3 = left[a + 3u];
            near3 += f3 * near;
            far3 += f3 * far;
            if (TALL) {
                let f4 = left[a + 32u];
                near4 += f4 * near;
                far4 += f4 * far;
                let f5 = left[a + 33u];
                near5 += f5 * near;
                far5 += f5 * far;
                let f6 = left[a + 34u];
                near6 += f6 * near;
                far6 += f6 * far;
                let f7 = left[a + 35u];
                near7 += f7 * near;
                far7 += f7 * far;
            }
        }
    }
    let rank = select(0u, params.rank, group.z == 0u);
    for (var r0 = 0u; r0 < rank; r0 += SPAN) {
        workgroupBarrier();
        load_lora(r0 + depth0, depth0, lane, rows, row0, column0, true);
        workgroupBarrier();
        for (var k = 0u; k < DEPTH; k++) {
            let b = (slice * DEPTH + k) * PITCH_RIGHT + column;
            let near = vec4f(right[b], right[b + 1u], right[b + 2u], right[b + 3u]);
            let far = vec4f(right[b + 32u], right[b + 33u], right[b + 34u], right[b + 35u]);
            let a = (slice * DEPTH + k) * PITCH_LEFT + row;
            let f0 = left[a + 0u];
            near0 += f0 * near;
            far0 += f0 * far;
            let f1 = left[a + 1u];
            near1 += f1 * near;
            far1 += f1 * far;
            let f2 = left[a + 2u];
            near2 += f2 * near;
            far2 += f2 * far;
            let f3 = left[a + 3u];
            near3 += f3 * near;
            far3 += f3 * far;
            if (TALL) {
                let f4 = left[a + 32u];
                near4 += f4 * near;
                far4 += f4 * far;
                let f5 = left[a + 33u];
                near5 += f5 * near;
                far5 += f5 * far;
                let f6 = left[a + 34u];
                near6 += f6 * near;
                far6 += f6 * far;
                let f7 = left[a + 35u];
                near7 += f7 * near;
                far7 += f7 * far;
            }
        }
    }
    near0 = fold(near0, slice, lane);
    far0 = fold(far0, slice, lane);
    near1 = fold(near1, slice, lane);
    far1 = fold(far1, slice, lane);
    near2 = fold(near2, slice, lane);
    far2 = fold(far2, slice, lane);
    near3 = fold(near3, slice, lane);
    far3 = fold(far3, slice, lane);
    if (TALL) {
        near4 = fold(near4, slice, lane);
        far4 = fold(far4, slice, lane);
        near5 = fold(near5, slice, lane);
        far5 = fold(far5, slice, lane);
        near6 = fold(near6, slice, lane);
        far6 = fold(far6, slice, lane);
        near7 = fold(near7, slice, lane);
        far7 = fold(far7, slice, lane);
    }
    if (slice > 0u) { return; }
    let y0 = group.z * params.rows * params.columns;
    let y_row = row0 + row;
    let y_column = column0 + column;
    store4(y0, rows, y_row + 0u, y_column, near0);
    store4(y0, rows, y_row + 0u, y_column + 32u, far0);
    store4(y0, rows, y_row + 1u, y_column, near1);
    store4(y0, rows, y_row + 1u, y_column + 32u, far1);
    store4(y0, rows, y_row + 2u, y_column, near2);
    store4(y0, rows, y_row + 2u, y_column + 32u, far2);
    store4(y0, rows, y_row + 3u, y_column, near3);
    store4(y0, rows, y_row + 3u, y_column + 32u, far3);
    if (TALL) {
        store4(y0, rows, y_row + 32u, y_column, near4);
        store4(y0, rows, y_row + 32u, y_column + 32u, far4);
        store4(y0, rows, y_row + 33u, y_column, near5);
        store4(y0, rows, y_row + 33u, y_column + 32u, far5);
        store4(y0, rows, y_row + 34u, y_column, near6);
        store4(y0, rows, y_row + 34u, y_column + 32u, far6);
        store4(y0, rows, y_row + 35u, y_column, near7);
        store4(y0, rows, y_row + 35u, y_column + 32u, far7);
    }
}

@compute @workgroup_size(LANES * SLICES)
fn backward(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) index: u32) {
    let rows = active_rows();
    let row0 = group.y * TILE_ROWS;
    let column0 = group.x * TILE_COLUMNS;
    if (row0 >= rows) { return; }
    let lane = index % LANES;
    let slice = index / LANES;
    let depth0 = slice * DEPTH;
    let row = (lane / 8u) * 4u;
    let column = (lane % 8u) * 4u;
    var near0 = vec4f(0.0);
    var far0 = vec4f(0.0);
    var near1 = vec4f(0.0);
    var far1 = vec4f(0.0);
    var near2 = vec4f(0.0);
    var far2 = vec4f(0.0);
    var near3 = vec4f(0.0);
    var far3 = vec4f(0.0);
    var near4 = vec4f(0.0);
    var far4 = vec4f(0.0);
    var near5 = vec4f(0.0);
    var far5 = vec4f(0.0);
    var near6 = vec4f(0.0);
    var far6 = vec4f(0.0);
    var near7 = vec4f(0.0);
    var far7 = vec4f(0.0);
    let begin = group.z * params.part;
    let end = min(begin + params.part, params.inner);
    // The next trip's values are on their way from memory while this trip's are multiplied.
    var next = load_backward(begin + depth0, end, lane, rows, row0, column0);
    for (var k0 = begin; k0 < end; k0 += SPAN) {
        workgroupBarrier();
        if (lane < TILE_ROWS) {
            put_left(depth0, lane, next.a0);
            put_left(depth0 + 4u, lane, next.a1);
        }
        put_right_backward(depth0, lane, next.b0, next.b1);
        workgroupBarrier();
        next = load_backward(k0 + SPAN + depth0, end, lane, rows, row0, column0);
        for (var k = 0u; k < DEPTH; k++) {
            let b = (slice * DEPTH + k) * PITCH_RIGHT + column;
            let near = vec4f(right[b], right[b + 1u], right[b + 2u], right[b + 3u]);
            let far = vec4f(right[b + 32u], right[b + 33u], right[b + 34u], right[b + 35u]);
            let a = (slice * DEPTH + k) * PITCH_LEFT + row;
            let f0 = left[a + 0u];
            near0 += f0 * near;
            far0 += f0 * far;
            let f1 = left[a + 1u];
            near1 += f1 * near;
            far1 += f1 * far;
            let f2 = left[a + 2u];
            near2 += f2 * near;
            far2 += f2 * far;
            let f3 = left[a + 3u];
            near3 += f3 * near;
            far3 += f3 * far;
            if (TALL) {
                let f4 = left[a + 32u];
                near4 += f4 * near;
                far4 += f4 * far;
                let f5 = left[a + 33u];
                near5 += f5 * near;
                far5 += f5 * far;
                let f6 = left[a + 34u];
                near6 += f6 * near;
                far6 += f6 * far;
                let f7 = left[a + 35u];
                near7 += f7 * near;
                far7 += f7 * far;
            }
        }
    }
    let rank = select(0u, params.rank, group.z == 0u);
    for (var r0 = 0u; r0 < rank; r0 += SPAN) {
        workgroupBarrier();
        load_lora(r0 + depth0, depth0, lane, rows, row0, column0, false);
        workgroupBarrier();
        for (var k = 0u; k < DEPTH; k++) {
            let b = (slice * DEPTH + k) * PITCH_RIGHT + column;
            let near = vec4f(right[b], right[b + 1u], right[b + 2u], right[b + 3u]);
            let far = vec4f(right[b + 32u], right[b + 33u], right[b + 34u], right[b + 35u]);
            let a = (slice * DEPTH + k) * PITCH_LEFT + row;
            let f0 = left[a + 0u];
            near0 += f0 * near;
            far0 += f0 * far;
            let f1 = left[a + 1u];
            near1 += f1 * near;
            far1 += f1 * far;
            let f2 = left[a + 2u];
            near2 += f2 * near;
            far2 += f2 * far;
            let f3 = left[a + 3u];
            near3 += f3 * near;
            far3 += f3 * far;
            if (TALL) {
                let f4 = left[a + 32u];
                near4 += f4 * near;
                far4 += f4 * far;
                let f5 = left[a + 33u];
                near5 += f5 * near;
                far5 += f5 * far;
                let f6 = left[a + 34u];
                near6 += f6 * near;
                far6 += f6 * far;
                let f7 = left[a + 35u];
                near7 += f7 * near;
                far7 += f7 * far;
            }
        }
    }
    near0 = fold(near0, slice, lane);
    far0 = fold(far0, slice, lane);
    near1 = fold(near1, slice, lane);
    far1 = fold(far1, slice, lane);
    near2 = fold(near2, slice, lane);
    far2 = fold(far2, slice, lane);
    near3 = fold(near3, slice, lane);
    far3 = fold(far3, slice, lane);
    if (TALL) {
        near4 = fold(near4, slice, lane);
        far4 = fold(far4, slice, lane);
        near5 = fold(near5, slice, lane);
        far5 = fold(far5, slice, lane);
        near6 = fold(near6, slice, lane);
        far6 = fold(far6, slice, lane);
        near7 = fold(near7, slice, lane);
        far7 = fold(far7, slice, lane);
    }
    if (slice > 0u) { return; }
    let y0 = group.z * params.rows * params.columns;
    let y_row = row0 + row;
    let y_column = column0 + column;
    store4(y0, rows, y_row + 0u, y_column, near0);
    store4(y0, rows, y_row + 0u, y_column + 32u, far0);
    store4(y0, rows, y_row + 1u, y_column, near1);
    store4(y0, rows, y_row + 1u, y_column + 32u, far1);
    store4(y0, rows, y_row + 2u, y_column, near2);
    store4(y0, rows, y_row + 2u, y_column + 32u, far2);
    store4(y0, rows, y_row + 3u, y_column, near3);
    store4(y0, rows, y_row + 3u, y_column + 32u, far3);
    if (TALL) {
        store4(y0, rows, y_row + 32u, y_column, near4);
        store4(y0, rows, y_row + 32u, y_column + 32u, far4);
        store4(y0, rows, y_row + 33u, y_column, near5);
        store4(y0, rows, y_row + 33u, y_column + 32u, far5);
        store4(y0, rows, y_row + 34u, y_column, near6);
        store4(y0, rows, y_row + 34u, y_column + 32u, far6);
        store4(y0, rows, y_row + 35u, y_column, near7);
        store4(y0, rows, y_row + 35u, y_column + 32u, far7);
    }
}
