// What both forms of matmul share. For each of up to three products (the grid's z):
//   c (m, n) (=|+=) alpha * a (m, k) b (k, n)
// Element (i, j) of a is a[a_offset + i * a_row + j * a_column], of b likewise, of c c[c_offset + i * c_row + j].
struct Params {
    n: u32, b_row: u32, b_column: u32, c_row: u32, alpha: f32, accumulate: u32, use_strength: u32,
    m0: u32, k0: u32, a_offset0: u32, a_row0: u32, a_column0: u32, b_offset0: u32, c_offset0: u32,
    m1: u32, k1: u32, a_offset1: u32, a_row1: u32, a_column1: u32, b_offset1: u32, c_offset1: u32,
    m2: u32, k2: u32, a_offset2: u32, a_row2: u32, a_column2: u32, b_offset2: u32, c_offset2: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
// include: step.wgsl
@group(0) @binding(2) var<storage, read> a: array<f32>;
@group(0) @binding(3) var<storage, read> b: array<f32>;
@group(0) @binding(4) var<storage, read_write> c: array<f32>;

// One product of a batch: where its factors and its result begin, and how they lie.
struct Product { m: u32, k: u32, a_offset: u32, a_row: u32, a_column: u32, b_offset: u32, c_offset: u32 }

fn product_of(batch: u32) -> Product {
    if (batch == 1u) {
        return Product(params.m1, params.k1, params.a_offset1, params.a_row1, params.a_column1, params.b_offset1, params.c_offset1);
    }
    if (batch == 2u) {
        return Product(params.m2, params.k2, params.a_offset2, params.a_row2, params.a_column2, params.b_offset2, params.c_offset2);
    }
    return Product(params.m0, params.k0, params.a_offset0, params.a_row0, params.a_column0, params.b_offset0, params.c_offset0);
}
