// What all forms of matmul share; before it comes matmul_scalars or matmul_vectors. For each of up to four products (the grid's z):
//   c (m, n) (=|+=) alpha * a (m, k) b (k, n)
// Element (i, j) of a is a[a_offset + i * a_row + j * a_column], of b and c likewise. A product with second = 1 has its
// factors in a2 and b2; all results lie in c.
struct Params {
    alpha: f32, accumulate: u32, use_strength: u32,
    m0: u32, n0: u32, k0: u32, a_offset0: u32, a_row0: u32, a_column0: u32, b_offset0: u32,
    b_row0: u32, b_column0: u32, c_offset0: u32, c_row0: u32, c_column0: u32, second0: u32,
    m1: u32, n1: u32, k1: u32, a_offset1: u32, a_row1: u32, a_column1: u32, b_offset1: u32,
    b_row1: u32, b_column1: u32, c_offset1: u32, c_row1: u32, c_column1: u32, second1: u32,
    m2: u32, n2: u32, k2: u32, a_offset2: u32, a_row2: u32, a_column2: u32, b_offset2: u32,
    b_row2: u32, b_column2: u32, c_offset2: u32, c_row2: u32, c_column2: u32, second2: u32,
    m3: u32, n3: u32, k3: u32, a_offset3: u32, a_row3: u32, a_column3: u32, b_offset3: u32,
    b_row3: u32, b_column3: u32, c_offset3: u32, c_row3: u32, c_column3: u32, second3: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
// include: step.wgsl
@group(0) @binding(4) var<storage, read_write> c: array<f32>;

// One product of a batch: its shape, where its factors and its result begin, and how they lie.
struct Product {
    m: u32, n: u32, k: u32, a_offset: u32, a_row: u32, a_column: u32, b_offset: u32, b_row: u32, b_column: u32,
    c_offset: u32, c_row: u32, c_column: u32, second: u32,
}

// Four rows of four, as vectors.
struct Block { v0: vec4f, v1: vec4f, v2: vec4f, v3: vec4f }

fn product_of(batch: u32) -> Product {
    switch batch {
        case 0u: {
            return Product(params.m0, params.n0, params.k0, params.a_offset0, params.a_row0, params.a_column0,
                           params.b_offset0, params.b_row0, params.b_column0, params.c_offset0, params.c_row0,
                           params.c_column0, params.second0);
        }
        case 1u: {
            return Product(params.m1, params.n1, params.k1, params.a_offset1, params.a_row1, params.a_column1,
                           params.b_offset1, params.b_row1, params.b_column1, params.c_offset1, params.c_row1,
                           params.c_column1, params.second1);
        }
        case 2u: {
            return Product(params.m2, params.n2, params.k2, params.a_offset2, params.a_row2, params.a_column2,
                           params.b_offset2, params.b_row2, params.b_column2, params.c_offset2, params.c_row2,
                           params.c_column2, params.second2);
        }
        default: {
            return Product(params.m3, params.n3, params.k3, params.a_offset3, params.a_row3, params.a_column3,
                           params.b_offset3, params.b_row3, params.b_column3, params.c_offset3, params.c_row3,
                           params.c_column3, params.second3);
        }
    }
}
