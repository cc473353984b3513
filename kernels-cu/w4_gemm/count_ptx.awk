# Instructions of one trip of each kernel's main loop, read off its PTX: one stage of one warp.
#   nvcc -std=c++20 -arch=sm_80 -Ikernels-cu -ptx -o - kernels-cu/w4_gemm/instances_int8.cu |
#       c++filt | awk -f kernels-cu/w4_gemm/count_ptx.awk
# The main loop is the innermost backward branch around the most mma. The element-wise copies of x,
# from the label behind an unconditional branch to their store to shared memory, are left out. PTX is
# not SASS: address arithmetic and moves change, the other columns hardly do.
function kind(op) {
    if (op ~ /^mma/) return "mma"
    if (op ~ /^ldmatrix/ || op ~ /^ld.shared/) return "ld"
    if (op ~ /^cp.async.c/) return "cp"
    if (op ~ /f16x2|bf16x2|^lop3|^prmt/) return "deq"
    if (op ~ /^(fma|mul|add)(.rn)?.f32/ || op ~ /^cvt.*f16/) return "fp32"
    return "rest"
}
function finish(    i, j, from, to, most, m, size, best, count) {
    if (name == "") return
    most = 0
    for (i = 1; i <= loops; ++i) {
        m = mma[last[i]] - mma[first[i] - 1]
        size = last[i] - first[i]
        if (m > most || (m == most && m > 0 && size < best)) {
            most = m; best = size; from = first[i]; to = last[i]
        }
    }
    size = 0
    for (j = from; j <= to; ++j) if (!cold[j]) { ++count[kinds[j]]; ++size }
    printf "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\n", name, count["mma"], count["ld"], count["cp"],
        count["deq"], count["fp32"], count["rest"], size
}
BEGIN { print "kernel\tmma\tld.shared\tcp.async\tdequant\tfp32\tother\tall" }
/^\.visible \.entry|^\.entry|^\.weak \.entry/ {
    name = $0
    sub(/.*Sm80Config</, "", name); sub(/\(.*/, "", name)
    gsub(/tarpon::(w4_gemm::)?/, "", name)
    n = 0; loops = 0; mma[0] = 0; side = 0; in_copy = 0
    delete label; delete cold; next
}
/^\$L/ {
    sub(/:.*/, ""); label[$1] = n + 1
    if (unconditional && !in_copy) side = n + 1
    next
}
/^\t[@a-z{]/ && name != "" {
    line = $0; sub(/^\t+/, "", line); sub(/^\{ */, "", line); sub(/^@!?%p[0-9]+ +/, "", line)
    if (line ~ /^\/\/|^\.|^$/) next
    ++n; kinds[n] = kind(line); mma[n] = mma[n - 1] + (kinds[n] == "mma")
    unconditional = line ~ /^bra\.uni/
    if (line ~ /^ld\.global/) in_copy = 1
    if (in_copy && line ~ /^st\.shared/) {
        for (i = side; i <= n; ++i) cold[i] = 1
        in_copy = 0
    }
    if (line ~ /^bra/) {
        target = line; sub(/^bra(\.uni)?[ \t]+/, "", target); sub(/;.*/, "", target)
        if (target in label) { ++loops; first[loops] = label[target]; last[loops] = n }
    }
}
/^}/ { finish(); name = "" }
