// The figures of the PTX ISA manual (9.0, "Warp Level Matrix Instructions"), typed by hand: which
// thread holds which element in which register. Deliberately not computed, so that layout.h, the
// simulator and the hardware have something to be checked against.
//
// An entry "T.R" is thread T, register R; a register holds two neighbouring 16-bit elements.
#pragma once

#include <cstdio>

namespace tarpon::figures {

struct Holder {
    int thread, reg;
};

// Entry `index` of a row of "T.R" entries.
inline Holder parse(const char *row, int index) {
    Holder out{-1, -1};
    int used = 0;
    for (int i = 0; i <= index; ++i) {
        if (std::sscanf(row, "%d.%d%n", &out.thread, &out.reg, &used) != 2) return {-1, -1};
        row += used;
    }
    return out;
}

// mma.m16n8k32 with bytes lies on the same threads and registers as m16n8k16: an entry of kMmaA is
// then four columns of A, a row of kMmaB four rows of B. The sparse m16n8k32 has its kept elements
// where kMmaA has an entry, two of four columns each.

// mma.m16n8k16, matrix A: row m; entry j holds the columns k = 2j and 2j+1 ({a0,a1} is register 0).
inline constexpr const char *kMmaA[16] = {
    " 0.0  1.0  2.0  3.0  0.2  1.2  2.2  3.2", " 4.0  5.0  6.0  7.0  4.2  5.2  6.2  7.2",
    " 8.0  9.0 10.0 11.0  8.2  9.2 10.2 11.2", "12.0 13.0 14.0 15.0 12.2 13.2 14.2 15.2",
    "16.0 17.0 18.0 19.0 16.2 17.2 18.2 19.2", "20.0 21.0 22.0 23.0 20.2 21.2 22.2 23.2",
    "24.0 25.0 26.0 27.0 24.2 25.2 26.2 27.2", "28.0 29.0 30.0 31.0 28.2 29.2 30.2 31.2",
    " 0.1  1.1  2.1  3.1  0.3  1.3  2.3  3.3", " 4.1  5.1  6.1  7.1  4.3  5.3  6.3  7.3",
    " 8.1  9.1 10.1 11.1  8.3  9.3 10.3 11.3", "12.1 13.1 14.1 15.1 12.3 13.3 14.3 15.3",
    "16.1 17.1 18.1 19.1 16.3 17.3 18.3 19.3", "20.1 21.1 22.1 23.1 20.3 21.3 22.3 23.3",
    "24.1 25.1 26.1 27.1 24.3 25.3 26.3 27.3", "28.1 29.1 30.1 31.1 28.3 29.3 30.3 31.3",
};

// mma.m16n8k16, matrix B: row j holds the rows k = 2j and 2j+1 of the matrix; entry n the column n.
inline constexpr const char *kMmaB[8] = {
    "0.0 4.0  8.0 12.0 16.0 20.0 24.0 28.0", "1.0 5.0  9.0 13.0 17.0 21.0 25.0 29.0",
    "2.0 6.0 10.0 14.0 18.0 22.0 26.0 30.0", "3.0 7.0 11.0 15.0 19.0 23.0 27.0 31.0",
    "0.1 4.1  8.1 12.1 16.1 20.1 24.1 28.1", "1.1 5.1  9.1 13.1 17.1 21.1 25.1 29.1",
    "2.1 6.1 10.1 14.1 18.1 22.1 26.1 30.1", "3.1 7.1 11.1 15.1 19.1 23.1 27.1 31.1",
};

// mma.m16n8k16, matrices C and D (32-bit): row m, entry n.
inline constexpr const char *kMmaC[16] = {
    " 0.0  0.1  1.0  1.1  2.0  2.1  3.0  3.1", " 4.0  4.1  5.0  5.1  6.0  6.1  7.0  7.1",
    " 8.0  8.1  9.0  9.1 10.0 10.1 11.0 11.1", "12.0 12.1 13.0 13.1 14.0 14.1 15.0 15.1",
    "16.0 16.1 17.0 17.1 18.0 18.1 19.0 19.1", "20.0 20.1 21.0 21.1 22.0 22.1 23.0 23.1",
    "24.0 24.1 25.0 25.1 26.0 26.1 27.0 27.1", "28.0 28.1 29.0 29.1 30.0 30.1 31.0 31.1",
    " 0.2  0.3  1.2  1.3  2.2  2.3  3.2  3.3", " 4.2  4.3  5.2  5.3  6.2  6.3  7.2  7.3",
    " 8.2  8.3  9.2  9.3 10.2 10.3 11.2 11.3", "12.2 12.3 13.2 13.3 14.2 14.3 15.2 15.3",
    "16.2 16.3 17.2 17.3 18.2 18.3 19.2 19.3", "20.2 20.3 21.2 21.3 22.2 22.3 23.2 23.3",
    "24.2 24.3 25.2 25.3 26.2 26.3 27.2 27.3", "28.2 28.3 29.2 29.3 30.2 30.3 31.2 31.3",
};

// mma.sp.m16n8k32, matrix B: row j holds the rows k = 2j and 2j+1 of the matrix; entry n the column n.
inline constexpr const char *kMmaSparseB[16] = {
    "0.0 4.0  8.0 12.0 16.0 20.0 24.0 28.0", "1.0 5.0  9.0 13.0 17.0 21.0 25.0 29.0",
    "2.0 6.0 10.0 14.0 18.0 22.0 26.0 30.0", "3.0 7.0 11.0 15.0 19.0 23.0 27.0 31.0",
    "0.1 4.1  8.1 12.1 16.1 20.1 24.1 28.1", "1.1 5.1  9.1 13.1 17.1 21.1 25.1 29.1",
    "2.1 6.1 10.1 14.1 18.1 22.1 26.1 30.1", "3.1 7.1 11.1 15.1 19.1 23.1 27.1 31.1",
    "0.2 4.2  8.2 12.2 16.2 20.2 24.2 28.2", "1.2 5.2  9.2 13.2 17.2 21.2 25.2 29.2",
    "2.2 6.2 10.2 14.2 18.2 22.2 26.2 30.2", "3.2 7.2 11.2 15.2 19.2 23.2 27.2 31.2",
    "0.3 4.3  8.3 12.3 16.3 20.3 24.3 28.3", "1.3 5.3  9.3 13.3 17.3 21.3 25.3 29.3",
    "2.3 6.3 10.3 14.3 18.3 22.3 26.3 30.3", "3.3 7.3 11.3 15.3 19.3 23.3 27.3 31.3",
};

// mma.sp.m16n8k32, metadata of row m: "T.B" is thread T from bit B on, 16 bits for the columns 0..15
// and 16..31 with selector 0, then the same with selector 1.
inline constexpr const char *kMmaSparseMetadata[16] = {
    " 0.0   1.0   2.0   3.0",  " 4.0   5.0   6.0   7.0",  " 8.0   9.0  10.0  11.0",
    "12.0  13.0  14.0  15.0",  "16.0  17.0  18.0  19.0",  "20.0  21.0  22.0  23.0",
    "24.0  25.0  26.0  27.0",  "28.0  29.0  30.0  31.0",  " 0.16  1.16  2.16  3.16",
    " 4.16  5.16  6.16  7.16", " 8.16  9.16 10.16 11.16", "12.16 13.16 14.16 15.16",
    "16.16 17.16 18.16 19.16", "20.16 21.16 22.16 23.16", "24.16 25.16 26.16 27.16",
    "28.16 29.16 30.16 31.16",
};

// ldmatrix: row r of matrix R; entry j holds the columns 2j and 2j+1. With .trans, row r stands for
// column r of the matrix in memory. The register is the number of the matrix.
inline constexpr const char *kLdmatrix[8] = {
    " 0.0  1.0  2.0  3.0", " 4.0  5.0  6.0  7.0", " 8.0  9.0 10.0 11.0", "12.0 13.0 14.0 15.0",
    "16.0 17.0 18.0 19.0", "20.0 21.0 22.0 23.0", "24.0 25.0 26.0 27.0", "28.0 29.0 30.0 31.0",
};

// ldmatrix: the thread that supplies the address of row r of matrix m.
inline constexpr int kLdmatrixAddress[4][8] = {
    {0, 1, 2, 3, 4, 5, 6, 7},
    {8, 9, 10, 11, 12, 13, 14, 15},
    {16, 17, 18, 19, 20, 21, 22, 23},
    {24, 25, 26, 27, 28, 29, 30, 31},
};

}  // namespace tarpon::figures
