"""The polynomial coefficients of stream version 1, printed by scripts/fit-polynomials.

Highest power first, in the order of Horner's rule. The comment beside each name is the degree and the largest
relative error of the exact polynomial, before its coefficients were rounded. docs/stream-v1.md lists them too.
"""

# The arguments of the three quantile pieces are taken from these centres.
QUANTILE_CENTRES = (3.0, 0.296875, 0.1015625)

# degree 8, error 4.1e-9
LOG_32 = (
    float.fromhex("-0x1.382e7a0000000p-4"),
    float.fromhex("0x1.0847e60000000p-3"),
    float.fromhex("-0x1.0f377e0000000p-3"),
    float.fromhex("0x1.2271ae0000000p-3"),
    float.fromhex("-0x1.54276c0000000p-3"),
    float.fromhex("0x1.99a3f20000000p-3"),
    float.fromhex("-0x1.0004260000000p-2"),
    float.fromhex("0x1.5555500000000p-2"),
    float.fromhex("-0x1.fffff80000000p-2"),
)

# degree 20, error 1.3e-18
LOG_64 = (
    float.fromhex("-0x1.8cfa7d6373591p-6"),
    float.fromhex("0x1.d2da4396ea9cap-5"),
    float.fromhex("-0x1.016e637a7b1f6p-4"),
    float.fromhex("0x1.bbf6b0353986ep-5"),
    float.fromhex("-0x1.b42259b843c18p-5"),
    float.fromhex("0x1.dc75ee4d3c594p-5"),
    float.fromhex("-0x1.00d2d92056d7fp-4"),
    float.fromhex("0x1.116cfd033eda1p-4"),
    float.fromhex("-0x1.2489392bc49d4p-4"),
    float.fromhex("0x1.3b0d306d742ddp-4"),
    float.fromhex("-0x1.55557365039fdp-4"),
    float.fromhex("0x1.745d5cd84efdfp-4"),
    float.fromhex("-0x1.99999af379bf0p-4"),
    float.fromhex("0x1.c71c700bbca1cp-4"),
    float.fromhex("-0x1.fffffff061315p-4"),
    float.fromhex("0x1.24924927b1f80p-3"),
    float.fromhex("-0x1.5555555573518p-3"),
    float.fromhex("0x1.9999999994057p-3"),
    float.fromhex("-0x1.ffffffffffd4ap-3"),
    float.fromhex("0x1.5555555555571p-2"),
    float.fromhex("-0x1.0000000000000p-1"),
)

# degree 4, error 4.6e-12
SIN_32 = (
    float.fromhex("0x1.4bc2560000000p-13"),
    float.fromhex("-0x1.32ca860000000p-8"),
    float.fromhex("0x1.466bba0000000p-4"),
    float.fromhex("-0x1.4abbce0000000p-1"),
    float.fromhex("0x1.921fb60000000p+0"),
)

# degree 7, error 1.9e-21
SIN_64 = (
    float.fromhex("-0x1.6c58cc7c2a742p-31"),
    float.fromhex("0x1.e8eec79f6a4cfp-25"),
    float.fromhex("-0x1.e3074b42cb847p-19"),
    float.fromhex("0x1.50783485c2de6p-13"),
    float.fromhex("-0x1.32d2cce62abbep-8"),
    float.fromhex("0x1.466bc6775aad9p-4"),
    float.fromhex("-0x1.4abbce625be53p-1"),
    float.fromhex("0x1.921fb54442d18p+0"),
)

# degree 4, error 5.6e-11
COS_32 = (
    float.fromhex("0x1.d99f540000000p-11"),
    float.fromhex("-0x1.55c4ea0000000p-6"),
    float.fromhex("0x1.03c1da0000000p-2"),
    float.fromhex("-0x1.3bd3cc0000000p+0"),
    float.fromhex("0x1.0000000000000p+0"),
)

# degree 8, error 1.8e-23
COS_64 = (
    float.fromhex("0x1.1e240e92b3f33p-34"),
    float.fromhex("-0x1.b6dd53767413bp-28"),
    float.fromhex("0x1.f9d3851e732bcp-22"),
    float.fromhex("-0x1.a6d1f29ef91e7p-16"),
    float.fromhex("0x1.e1f5068919874p-11"),
    float.fromhex("-0x1.55d3c7e3cbfecp-6"),
    float.fromhex("0x1.03c1f081b5ac4p-2"),
    float.fromhex("-0x1.3bd3cc9be45dep+0"),
    float.fromhex("0x1.0000000000000p+0"),
)

# degree 10, error 5.2e-9
QUANTILE_CENTRE_32 = (
    float.fromhex("0x1.e655100000000p-30"),
    float.fromhex("-0x1.09f8340000000p-26"),
    float.fromhex("-0x1.bd7dd60000000p-25"),
    float.fromhex("0x1.5476b20000000p-20"),
    float.fromhex("-0x1.5112f00000000p-18"),
    float.fromhex("-0x1.2d89600000000p-15"),
    float.fromhex("0x1.215b540000000p-11"),
    float.fromhex("-0x1.35ffee0000000p-9"),
    float.fromhex("-0x1.09e9d00000000p-6"),
    float.fromhex("0x1.5deb100000000p-1"),
    float.fromhex("0x1.25e47a0000000p+2"),
)

# degree 24, error 2.0e-18
QUANTILE_CENTRE_64 = (
    float.fromhex("-0x1.6f50d99f54adep-71"),
    float.fromhex("0x1.c6eebf49e0bd3p-67"),
    float.fromhex("0x1.36e28ce20092ap-68"),
    float.fromhex("-0x1.43822ca7bc806p-60"),
    float.fromhex("0x1.7025396e13e88p-58"),
    float.fromhex("0x1.4d76b9cf0d1a9p-55"),
    float.fromhex("-0x1.02dba7d2b6935p-51"),
    float.fromhex("0x1.c0c50a403e8ddp-51"),
    float.fromhex("0x1.4150e3e7cb35ap-46"),
    float.fromhex("-0x1.512c2c981619ep-43"),
    float.fromhex("0x1.45029c5c67f98p-46"),
    float.fromhex("0x1.0c98aa143ead8p-37"),
    float.fromhex("-0x1.af22ef9c84c63p-35"),
    float.fromhex("-0x1.86ec066fa7d04p-34"),
    float.fromhex("0x1.afcec6e2666f3p-29"),
    float.fromhex("-0x1.09a94385e42e7p-26"),
    float.fromhex("-0x1.1fc54e82c0776p-24"),
    float.fromhex("0x1.55a6c80ebf573p-20"),
    float.fromhex("-0x1.4bcaee86137c9p-18"),
    float.fromhex("-0x1.2db790569419bp-15"),
    float.fromhex("0x1.21422adf5dd24p-11"),
    float.fromhex("-0x1.35fee3cbde2c8p-9"),
    float.fromhex("-0x1.09e91f88fdebcp-6"),
    float.fromhex("0x1.5deb0f5218a74p-1"),
    float.fromhex("0x1.25e47a9d5da59p+2"),
)

# degree 9, error 1.2e-8
QUANTILE_MIDDLE_32 = (
    float.fromhex("0x1.60f15e0000000p+13"),
    float.fromhex("-0x1.3b60f20000000p+8"),
    float.fromhex("-0x1.be7b200000000p+9"),
    float.fromhex("-0x1.354e660000000p+5"),
    float.fromhex("0x1.2b7f660000000p+5"),
    float.fromhex("0x1.6153060000000p+2"),
    float.fromhex("0x1.dfcd100000000p+0"),
    float.fromhex("0x1.d35b860000000p-2"),
    float.fromhex("-0x1.0eb8480000000p-1"),
    float.fromhex("0x1.5842520000000p+1"),
)

# degree 26, error 9.3e-18
QUANTILE_MIDDLE_64 = (
    float.fromhex("0x1.417e296947136p+53"),
    float.fromhex("-0x1.4dd429390a931p+50"),
    float.fromhex("-0x1.110813f6e693dp+50"),
    float.fromhex("0x1.87df73b3b4686p+47"),
    float.fromhex("0x1.5a9130346703bp+45"),
    float.fromhex("-0x1.983365a10b43ap+43"),
    float.fromhex("-0x1.ad2bc77ee6277p+37"),
    float.fromhex("0x1.cd9496337afeap+38"),
    float.fromhex("-0x1.d6aecbb916bd4p+35"),
    float.fromhex("-0x1.a17f74ae978ffp+32"),
    float.fromhex("0x1.9793d38155da7p+31"),
    float.fromhex("-0x1.e9dbfd404a761p+27"),
    float.fromhex("-0x1.6e75f9fb30ca1p+26"),
    float.fromhex("0x1.4a81bee4cb5b8p+24"),
    float.fromhex("0x1.4edd6240c7e8bp+20"),
    float.fromhex("-0x1.c478a0dcfe8ffp+19"),
    float.fromhex("0x1.38a763072e4ecp+13"),
    float.fromhex("0x1.0160c2acf301bp+15"),
    float.fromhex("-0x1.bf2084ed3fc38p+9"),
    float.fromhex("-0x1.201d2f106f4fcp+10"),
    float.fromhex("-0x1.0082cad2ea762p+5"),
    float.fromhex("0x1.37a26a7c34255p+5"),
    float.fromhex("0x1.5f71577ed035bp+2"),
    float.fromhex("0x1.ded575f3ff864p+0"),
    float.fromhex("0x1.d367602f2967fp-2"),
    float.fromhex("-0x1.0eb7eef46b483p-1"),
    float.fromhex("0x1.5842525d0f90bp+1"),
)

# degree 7, error 1.8e-8
QUANTILE_FAR_32 = (
    float.fromhex("0x1.9ca1ec0000000p+10"),
    float.fromhex("-0x1.3f1b0a0000000p+8"),
    float.fromhex("0x1.5c1bb60000000p+5"),
    float.fromhex("-0x1.6718a00000000p+3"),
    float.fromhex("0x1.23c7b00000000p+2"),
    float.fromhex("-0x1.efb4f00000000p-1"),
    float.fromhex("-0x1.ecdbf60000000p-2"),
    float.fromhex("0x1.65fb7c0000000p+1"),
)

# degree 24, error 2.3e-17
QUANTILE_FAR_64 = (
    float.fromhex("-0x1.d2761f5acd1bbp+62"),
    float.fromhex("0x1.9c5122836d787p+60"),
    float.fromhex("0x1.03f58ded4084ep+49"),
    float.fromhex("-0x1.5080dcca269b5p+54"),
    float.fromhex("0x1.21031e09aa7f8p+48"),
    float.fromhex("0x1.b590386203c1fp+47"),
    float.fromhex("-0x1.68dc4c1d05e58p+43"),
    float.fromhex("-0x1.6bb84117741b9p+38"),
    float.fromhex("-0x1.63b2afbfdf6e0p+34"),
    float.fromhex("0x1.509e5d52af850p+33"),
    float.fromhex("-0x1.2300a7fcef817p+30"),
    float.fromhex("0x1.fd5c079376b1cp+26"),
    float.fromhex("-0x1.13d5a8e4fdf24p+24"),
    float.fromhex("0x1.30c24fc6d7304p+21"),
    float.fromhex("-0x1.53ef68a86cd04p+18"),
    float.fromhex("0x1.8a35085c424b9p+15"),
    float.fromhex("-0x1.e0c3b9a09d4c5p+12"),
    float.fromhex("0x1.38b2abff975a6p+10"),
    float.fromhex("-0x1.ba2e10bc01b12p+7"),
    float.fromhex("0x1.5f9868ed1970fp+5"),
    float.fromhex("-0x1.71301909a1a47p+3"),
    float.fromhex("0x1.23d3f5b908779p+2"),
    float.fromhex("-0x1.ef8bbf2a7938bp-1"),
    float.fromhex("-0x1.ecdc20b35bdaap-2"),
    float.fromhex("0x1.65fb7accc6bbap+1"),
)

# degree 4, error 1.3e-8
EXP_32 = (
    float.fromhex("0x1.6beeb60000000p-10"),
    float.fromhex("0x1.1228fc0000000p-7"),
    float.fromhex("0x1.5556740000000p-5"),
    float.fromhex("0x1.5554ae0000000p-3"),
    float.fromhex("0x1.fffffe0000000p-2"),
)

# degree 10, error 2.7e-19
EXP_64 = (
    float.fromhex("0x1.1ee7fbe489d40p-29"),
    float.fromhex("0x1.af5fdb0ba4cbep-26"),
    float.fromhex("0x1.27e5372ca22ecp-22"),
    float.fromhex("0x1.71ddf7c1bdf2fp-19"),
    float.fromhex("0x1.a01a017afed3ap-16"),
    float.fromhex("0x1.a01a01b017c5ap-13"),
    float.fromhex("0x1.6c16c16c1f409p-10"),
    float.fromhex("0x1.111111110f643p-7"),
    float.fromhex("0x1.555555555553ep-5"),
    float.fromhex("0x1.5555555555559p-3"),
    float.fromhex("0x1.0000000000000p-1"),
)
