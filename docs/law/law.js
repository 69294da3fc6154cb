// The stream, version 1, written from docs/stream-v1.md alone. No dependency; browsers and node.
//
//     const { tensor } = require("./law.js");                   // in a page: <script src="law.js">, then law.tensor
//     const w = tensor({ method: "normal", parameters: { std: 0.02 }, shape: [4096, 512], seed: 42, name: "wte" });
//     w.at(7n)     // the value of flat index 7, a number
//     w.bits(7n)   // its bits, in hexadecimal
//
// It has the methods whose values are independent draws, and constants. A float32 value takes about 20 microseconds, a
// float64 value 150, as JavaScript has no fma.
"use strict";

(function (root, make) {
  if (typeof module === "object" && module.exports) module.exports = make();
  else root.law = make();
})(typeof globalThis === "object" ? globalThis : this, function () {
  // Formats: digits of the significand with the hidden bit, exponent of the smallest subnormal, largest number, bytes
  const FORMATS = {
    float64: { digits: 53, lowest: -1074, largest: Number.MAX_VALUE, bytes: 8 },
    float32: { digits: 24, lowest: -149, largest: (2 - 2 ** -23) * 2 ** 127, bytes: 4 },
    float16: { digits: 11, lowest: -24, largest: 65504, bytes: 2 },
    bfloat16: { digits: 8, lowest: -133, largest: (2 - 2 ** -7) * 2 ** 127, bytes: 2 },
    float8_e4m3fn: { digits: 4, lowest: -9, largest: 448, bytes: 1 },
    float8_e5m2: { digits: 3, lowest: -16, largest: 57344, bytes: 1 },
  };
  const fround = Math.fround;

  // --- Bits of a float64 ---------------------------------------------------------------------------------------------

  const view = new DataView(new ArrayBuffer(8));

  function bits64(x) {
    view.setFloat64(0, x);
    return view.getBigUint64(0);
  }

  function from64(bits) {
    view.setBigUint64(0, bits);
    return view.getFloat64(0);
  }

  // x = m 2^e, as integers
  function dyadic(x) {
    const bits = bits64(x);
    const biased = Number((bits >> 52n) & 0x7ffn);
    const fraction = bits & 0xfffffffffffffn;
    const m = biased ? fraction | 0x10000000000000n : fraction;
    return [bits >> 63n ? -m : m, (biased || 1) - 1075];
  }

  const bitLength = (m) => (m === 0n ? 0 : m.toString(16).length * 4 - Math.clz32(parseInt(m.toString(16)[0], 16)) + 28);

  // m 2^e (m other than 0) rounded to nearest, ties to even
  function nearest(m, e, digits = 53, lowest = -1074) {
    let size = m < 0n ? -m : m;
    const drop = Math.max(bitLength(size) - digits, lowest - e);
    if (drop > 0) {
      const kept = size >> BigInt(drop);
      const rest = size - (kept << BigInt(drop));
      const half = 1n << BigInt(drop - 1);
      size = kept + (rest > half || (rest === half && kept & 1n) ? 1n : 0n);
      e += drop;
    }
    // In two steps, as 2^e alone may overflow or vanish. Both products are exact, or overflow as they should.
    const value = e > 900 ? Number(size) * 2 ** 900 * 2 ** (e - 900) : Number(size) * 2 ** e;
    return m < 0n ? -value : value;
  }

  function below(x) {
    // the next float64 below a finite x
    if (x === 0) return -Number.MIN_VALUE;
    return from64(x > 0 ? bits64(x) - 1n : bits64(x) + 1n);
  }

  // --- Rounding to a dtype (section 6) -------------------------------------------------------------------------------

  // The distance of the dtype's numbers around x, a power of two
  function quantum(x, format) {
    const exponent = Math.max(Number((bits64(x) >> 52n) & 0x7ffn), 1) - 1023;
    return 2 ** Math.max(exponent - format.digits + 1, format.lowest);
  }

  const MAGIC = 1.5 * 2 ** 52; // adding and subtracting it rounds a float64 to an integer, ties to even

  function round(x, dtype) {
    if (dtype === "float64" || x === 0 || !Number.isFinite(x)) return x;
    if (dtype === "float32") return fround(x);
    const q = quantum(x, FORMATS[dtype]);
    const value = (Math.abs(x) / q + MAGIC - MAGIC) * q;
    return x < 0 ? -value : value;
  }

  // The largest number of the dtype that is not above x, and the smallest that is not below it; zero is +0
  function floorTo(x, dtype) {
    if (dtype === "float64" || x === 0) return x + 0;
    const q = quantum(x, FORMATS[dtype]);
    return Math.floor(x / q) * q + 0;
  }
  const ceilTo = (x, dtype) => -floorTo(-x, dtype) + 0;

  // The bits of a number of the dtype, in hexadecimal
  function encode(x, dtype) {
    const { digits, lowest, bytes } = FORMATS[dtype];
    const bits = bits64(x);
    const sign = (bits >> 63n) << BigInt(8 * bytes - 1);
    let body;
    const smallest = 2 ** Math.max(lowest + digits - 1, -1022);
    if (dtype === "float64") body = bits & 0x7fffffffffffffffn;
    else if (x === Infinity || x === -Infinity) {
      const exponents = BigInt(8 * bytes - digits);
      body = ((1n << exponents) - 1n) << BigInt(digits - 1);
    } else if (Math.abs(x) < smallest) body = BigInt(Math.abs(x) / 2 ** lowest);
    else {
      const exponent = Number((bits >> 52n) & 0x7ffn) - 1023;
      const fraction = (bits & 0xfffffffffffffn) >> BigInt(53 - digits);
      body = (BigInt(exponent - (lowest + digits - 1) + 1) << BigInt(digits - 1)) | fraction;
    }
    return (sign | body).toString(16).padStart(2 * bytes, "0");
  }

  // --- Arithmetic (section 2) ----------------------------------------------------------------------------------------

  function fma64(a, b, c) {
    if (a === 0 || b === 0) return a * b + c;
    const [ma, ea] = dyadic(a);
    const [mb, eb] = dyadic(b);
    const [mc, ec] = dyadic(c);
    const e = ea + eb;
    const low = Math.min(e, ec);
    const total = ((ma * mb) << BigInt(e - low)) + (mc << BigInt(ec - low));
    return total === 0n ? 0 : nearest(total, low);
  }

  // The product of two float32 is exact in float64. The sum is rounded there to odd, after which a second rounding to
  // float32 gives what one rounding would have given (S. Boldo and G. Melquiond, 2008).
  function fma32(a, b, c) {
    const p = a * b;
    const s = p + c;
    const t = s - p;
    const error = p - (s - t) + (c - t);
    if (error !== 0) {
      const bits = bits64(s);
      if (!(bits & 1n)) return fround(from64(error > 0 === s > 0 ? bits + 1n : bits - 1n));
    }
    return fround(s);
  }

  // Coefficients (section 12), the highest power first
  function hex(text) {
    const [, sign, whole, fraction, power] = /^(-?)0x([01])(?:\.([0-9a-f]+))?p([+-]?\d+)$/.exec(text);
    const m = BigInt("0x" + whole + (fraction || ""));
    const value = nearest(m, Number(power) - 4 * (fraction || "").length);
    return sign ? -value : value;
  }
  const table = (text) => text.trim().split(/\s+/).map(hex);
  const TABLES = {
    LOG_32: table(`
      -0x1.382e7ap-4 0x1.0847e6p-3 -0x1.0f377ep-3 0x1.2271aep-3 -0x1.54276cp-3 0x1.99a3f2p-3 -0x1.000426p-2
      0x1.555550p-2 -0x1.fffff8p-2`),
    LOG_64: table(`
      -0x1.8cfa7d6373591p-6 0x1.d2da4396ea9cap-5 -0x1.016e637a7b1f6p-4 0x1.bbf6b0353986ep-5 -0x1.b42259b843c18p-5
      0x1.dc75ee4d3c594p-5 -0x1.00d2d92056d7fp-4 0x1.116cfd033eda1p-4 -0x1.2489392bc49d4p-4 0x1.3b0d306d742ddp-4
      -0x1.55557365039fdp-4 0x1.745d5cd84efdfp-4 -0x1.99999af379bf0p-4 0x1.c71c700bbca1cp-4 -0x1.fffffff061315p-4
      0x1.24924927b1f80p-3 -0x1.5555555573518p-3 0x1.9999999994057p-3 -0x1.ffffffffffd4ap-3 0x1.5555555555571p-2
      -0x1.0000000000000p-1`),
    SIN_32: table(`
      0x1.4bc256p-13 -0x1.32ca86p-8 0x1.466bbap-4 -0x1.4abbcep-1 0x1.921fb6p+0`),
    SIN_64: table(`
      -0x1.6c58cc7c2a742p-31 0x1.e8eec79f6a4cfp-25 -0x1.e3074b42cb847p-19 0x1.50783485c2de6p-13
      -0x1.32d2cce62abbep-8 0x1.466bc6775aad9p-4 -0x1.4abbce625be53p-1 0x1.921fb54442d18p+0`),
    COS_32: table(`
      0x1.d99f54p-11 -0x1.55c4eap-6 0x1.03c1dap-2 -0x1.3bd3ccp+0 0x1.000000p+0`),
    COS_64: table(`
      0x1.1e240e92b3f33p-34 -0x1.b6dd53767413bp-28 0x1.f9d3851e732bcp-22 -0x1.a6d1f29ef91e7p-16
      0x1.e1f5068919874p-11 -0x1.55d3c7e3cbfecp-6 0x1.03c1f081b5ac4p-2 -0x1.3bd3cc9be45dep+0 0x1.0000000000000p+0`),
    CENTRE_32: table(`
      0x1.e65510p-30 -0x1.09f834p-26 -0x1.bd7dd6p-25 0x1.5476b2p-20 -0x1.5112f0p-18 -0x1.2d8960p-15 0x1.215b54p-11
      -0x1.35ffeep-9 -0x1.09e9d0p-6 0x1.5deb10p-1 0x1.25e47ap+2`),
    CENTRE_64: table(`
      -0x1.6f50d99f54adep-71 0x1.c6eebf49e0bd3p-67 0x1.36e28ce20092ap-68 -0x1.43822ca7bc806p-60
      0x1.7025396e13e88p-58 0x1.4d76b9cf0d1a9p-55 -0x1.02dba7d2b6935p-51 0x1.c0c50a403e8ddp-51 0x1.4150e3e7cb35ap-46
      -0x1.512c2c981619ep-43 0x1.45029c5c67f98p-46 0x1.0c98aa143ead8p-37 -0x1.af22ef9c84c63p-35
      -0x1.86ec066fa7d04p-34 0x1.afcec6e2666f3p-29 -0x1.09a94385e42e7p-26 -0x1.1fc54e82c0776p-24
      0x1.55a6c80ebf573p-20 -0x1.4bcaee86137c9p-18 -0x1.2db790569419bp-15 0x1.21422adf5dd24p-11
      -0x1.35fee3cbde2c8p-9 -0x1.09e91f88fdebcp-6 0x1.5deb0f5218a74p-1 0x1.25e47a9d5da59p+2`),
    MIDDLE_32: table(`
      0x1.60f15ep+13 -0x1.3b60f2p+8 -0x1.be7b20p+9 -0x1.354e66p+5 0x1.2b7f66p+5 0x1.615306p+2 0x1.dfcd10p+0
      0x1.d35b86p-2 -0x1.0eb848p-1 0x1.584252p+1`),
    MIDDLE_64: table(`
      0x1.417e296947136p+53 -0x1.4dd429390a931p+50 -0x1.110813f6e693dp+50 0x1.87df73b3b4686p+47
      0x1.5a9130346703bp+45 -0x1.983365a10b43ap+43 -0x1.ad2bc77ee6277p+37 0x1.cd9496337afeap+38
      -0x1.d6aecbb916bd4p+35 -0x1.a17f74ae978ffp+32 0x1.9793d38155da7p+31 -0x1.e9dbfd404a761p+27
      -0x1.6e75f9fb30ca1p+26 0x1.4a81bee4cb5b8p+24 0x1.4edd6240c7e8bp+20 -0x1.c478a0dcfe8ffp+19
      0x1.38a763072e4ecp+13 0x1.0160c2acf301bp+15 -0x1.bf2084ed3fc38p+9 -0x1.201d2f106f4fcp+10 -0x1.0082cad2ea762p+5
      0x1.37a26a7c34255p+5 0x1.5f71577ed035bp+2 0x1.ded575f3ff864p+0 0x1.d367602f2967fp-2 -0x1.0eb7eef46b483p-1
      0x1.5842525d0f90bp+1`),
    FAR_32: table(`
      0x1.9ca1ecp+10 -0x1.3f1b0ap+8 0x1.5c1bb6p+5 -0x1.6718a0p+3 0x1.23c7b0p+2 -0x1.efb4f0p-1 -0x1.ecdbf6p-2
      0x1.65fb7cp+1`),
    FAR_64: table(`
      -0x1.d2761f5acd1bbp+62 0x1.9c5122836d787p+60 0x1.03f58ded4084ep+49 -0x1.5080dcca269b5p+54
      0x1.21031e09aa7f8p+48 0x1.b590386203c1fp+47 -0x1.68dc4c1d05e58p+43 -0x1.6bb84117741b9p+38
      -0x1.63b2afbfdf6e0p+34 0x1.509e5d52af850p+33 -0x1.2300a7fcef817p+30 0x1.fd5c079376b1cp+26
      -0x1.13d5a8e4fdf24p+24 0x1.30c24fc6d7304p+21 -0x1.53ef68a86cd04p+18 0x1.8a35085c424b9p+15
      -0x1.e0c3b9a09d4c5p+12 0x1.38b2abff975a6p+10 -0x1.ba2e10bc01b12p+7 0x1.5f9868ed1970fp+5 -0x1.71301909a1a47p+3
      0x1.23d3f5b908779p+2 -0x1.ef8bbf2a7938bp-1 -0x1.ecdc20b35bdaap-2 0x1.65fb7accc6bbap+1`),
  };

  function horner(fma, c, x) {
    let v = c[0];
    for (let i = 1; i < c.length; i++) v = fma(v, x, c[i]);
    return v;
  }

  const every = (c, last) => c.filter((_, i) => (c.length - 1 - i) % 2 === last);

  function byHalves(name) {
    const even = every(TABLES[name], 0);
    const odd = every(TABLES[name], 1);
    return (x) => {
      const s = x * x;
      return fma64(x, horner(fma64, odd, s), horner(fma64, even, s));
    };
  }

  // The two types that values are drawn in. `r` rounds the result of one float64 operation.
  const single = (name) => (x) => horner(fma32, TABLES[name], x);
  const double = (name) => (x) => horner(fma64, TABLES[name], x);
  const F32 = {
    r: fround, fma: fma32, BITS: 32n, STEPS: 2n ** 32n, LN2: hex("0x1.62e430p-1"), ROOT_HALF: hex("0x1.6a09e6p-1"),
    LOG: single("LOG_32"), SIN: single("SIN_32"), COS: single("COS_32"),
    CENTRE: single("CENTRE_32"), MIDDLE: single("MIDDLE_32"), FAR: single("FAR_32"),
  };
  const F64 = {
    r: (x) => x, fma: fma64, BITS: 64n, STEPS: 2n ** 53n, LN2: hex("0x1.62e42fefa39efp-1"),
    ROOT_HALF: hex("0x1.6a09e667f3bcdp-1"),
    LOG: byHalves("LOG_64"), SIN: double("SIN_64"), COS: double("COS_64"),
    CENTRE: byHalves("CENTRE_64"), MIDDLE: byHalves("MIDDLE_64"), FAR: byHalves("FAR_64"),
  };

  // --- Words (section 3) ---------------------------------------------------------------------------------------------

  // Both halves of the 64-bit product of two words, from pieces of 16 bits
  function high(a, b) {
    const [a0, a1, b0, b1] = [a & 0xffff, a >>> 16, b & 0xffff, b >>> 16];
    const middle = a1 * b0 + ((a0 * b0) >>> 16);
    const carry = a0 * b1 + (middle & 0xffff);
    return a1 * b1 + (middle - (middle & 0xffff)) / 65536 + (carry - (carry & 0xffff)) / 65536;
  }

  function philox(counter, key) {
    let [c0, c1, c2, c3] = counter;
    let [k0, k1] = key;
    for (let i = 0; i < 10; i++) {
      const [h0, l0] = [high(0xd2511f53, c0), Math.imul(0xd2511f53, c0) >>> 0];
      const [h1, l1] = [high(0xcd9e8d57, c2), Math.imul(0xcd9e8d57, c2) >>> 0];
      [c0, c1, c2, c3] = [(h1 ^ c1 ^ k0) >>> 0, l1, (h0 ^ c3 ^ k1) >>> 0, l0];
      k0 = (k0 + 0x9e3779b9) >>> 0;
      k1 = (k1 + 0xbb67ae85) >>> 0;
    }
    return [c0, c1, c2, c3];
  }

  const M64 = 2n ** 64n - 1n;
  const pair = (x) => [Number(x & 0xffffffffn), Number(x >> 32n)];
  const words = (block, stream, seed) => philox([...pair(block), ...pair(stream)], pair(seed));

  function drawn(e, stream, seed, type) {
    if (type === F32) return BigInt(words(e >> 2n, stream, seed)[Number(e & 3n)]);
    const four = words(e >> 1n, stream, seed);
    const lane = 2 * Number(e & 1n);
    return BigInt(four[lane]) | (BigInt(four[lane + 1]) << 32n);
  }

  // BLAKE2b (RFC 7693) with an 8-byte digest, personalized with "bigin-v1"
  const IV = [
    0x6a09e667f3bcc908n, 0xbb67ae8584caa73bn, 0x3c6ef372fe94f82bn, 0xa54ff53a5f1d36f1n,
    0x510e527fade682d1n, 0x9b05688c2b3e6c1fn, 0x1f83d9abfb41bd6bn, 0x5be0cd19137e2179n,
  ];
  const SIGMA = [
    "0123456789abcdef", "ea489fd61c02b753", "b8c052fdae367194", "7931dcbe265a40f8", "905724afe1bc683d",
    "2c6a0b834d75fe19", "c51fed4a0763928b", "db7ec13950f4862a", "6fe9b308c2d714a5", "a2847615fb9e3cd0",
  ].map((line) => [...line].map((digit) => parseInt(digit, 16)));

  function blake2b(bytes) {
    const h = IV.slice();
    h[0] ^= 0x01010008n;
    h[6] ^= 0x31762d6e69676962n;
    const turn = (x, n) => ((x >> BigInt(n)) | (x << BigInt(64 - n))) & M64;
    const blocks = Math.max(1, Math.ceil(bytes.length / 128));
    for (let at = 0; at < blocks; at++) {
      const block = new DataView(new ArrayBuffer(128));
      bytes.slice(128 * at, 128 * at + 128).forEach((byte, i) => block.setUint8(i, byte));
      const m = Array.from({ length: 16 }, (_, i) => block.getBigUint64(8 * i, true));
      const last = at === blocks - 1;
      const v = [...h, ...IV];
      v[12] ^= BigInt(last ? bytes.length : 128 * (at + 1));
      if (last) v[14] ^= M64;
      for (let turnOf = 0; turnOf < 12; turnOf++) {
        const s = SIGMA[turnOf % 10];
        const mix = (a, b, c, d, i) => {
          v[a] = (v[a] + v[b] + m[s[2 * i]]) & M64;
          v[d] = turn(v[d] ^ v[a], 32);
          v[c] = (v[c] + v[d]) & M64;
          v[b] = turn(v[b] ^ v[c], 24);
          v[a] = (v[a] + v[b] + m[s[2 * i + 1]]) & M64;
          v[d] = turn(v[d] ^ v[a], 16);
          v[c] = (v[c] + v[d]) & M64;
          v[b] = turn(v[b] ^ v[c], 63);
        };
        for (let i = 0; i < 4; i++) mix(i, 4 + i, 8 + i, 12 + i, i);
        for (let i = 0; i < 4; i++) mix(i, 4 + ((i + 1) % 4), 8 + ((i + 2) % 4), 12 + ((i + 3) % 4), 4 + i);
      }
      for (let i = 0; i < 8; i++) h[i] ^= v[i] ^ v[i + 8];
    }
    return h[0];
  }

  function hash(text) {
    if (/[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/.test(text))
      throw new RangeError("the name is no Unicode text: half of a surrogate pair stands alone");
    return blake2b(new TextEncoder().encode(text));
  }

  function streamId(name = "", purpose = "") {
    if (name === "" && purpose === "") return 0n;
    if (name.includes("\0")) throw new RangeError("a name has no character 0");
    return hash(name + "\0" + purpose);
  }

  // Rows by key: the Philox key of a table, and the key of a text
  const tableKey = (seed, name = "") => drawn(0n, streamId(name, "keys"), BigInt(seed), F64);
  const textKey = (text) => hash(text + "\0\0");

  // --- Functions (section 4) -----------------------------------------------------------------------------------------

  function split(x, type) {
    const power = Number((bits64(x) >> 52n) & 0x7ffn) - 1022;
    const rest = x / 2 ** power; // 1/2 ... 1
    return rest >= type.ROOT_HALF ? [power, rest] : [power - 1, 2 * rest];
  }

  function parts(power, f, { r, fma, LN2, LOG }) {
    const g = r(f * f);
    const h = fma(g, LOG(f), f);
    return fma(power, LN2, h);
  }

  function log(x, type) {
    const [power, rest] = split(x, type);
    return parts(power, type.r(rest - 1), type);
  }

  const float = (i, { r }) => r(Number(i)); // Number rounds to nearest; a word or 53 bits fit, 64 bits are a float64's

  function logWord(x, type) {
    const { r, BITS } = type;
    const [whole, rest] = split(r(float(x, type) + 0.5), type);
    const power = whole - Number(BITS);
    const f =
      power === 0 ? r(r(float(2n ** BITS - 1n - x, type) + 0.5) * -(2 ** -Number(BITS))) : r(rest - 1);
    return parts(power, f, type);
  }

  function sincosWord(x, type) {
    const { r, BITS, SIN, COS } = type;
    const full = 1n << BITS;
    const quadrant = ((x + (full >> 3n)) % full) / (full >> 2n);
    let rest = (x - quadrant * (full >> 2n) + full) % full;
    if (rest >= full >> 1n) rest -= full;
    const y = r(float(rest, type) * 2 ** (2 - Number(BITS)));
    const z = r(y * y);
    const s = r(y * SIN(z));
    const c = COS(z);
    return [[s, c], [c, -s], [-s, -c], [-c, s]][Number(quadrant)];
  }

  function quantile(d, w, { r, CENTRE, MIDDLE, FAR }) {
    const t = r(1 / r(Math.sqrt(w > 6 ? w : 6)));
    let slope;
    if (w < 6) slope = CENTRE(r(w - 3));
    else if (w < 32) slope = r(MIDDLE(r(t - 0.296875)) / t);
    else slope = r(FAR(r(t - 0.1015625)) / t);
    return r(d * slope);
  }

  const clamp = (x, first, last) => (x < first ? first : x > last ? last : x);

  // --- The numbers of the truncated normal (section 7), in fixed point -------------------------------------------------

  const POINT = 2200; // bits behind the point: more than 410 digits, also of what is left at 37 standard deviations
  const ONE = 1n << BigInt(POINT);
  const times = (a, b) => (a * b) >> BigInt(POINT);
  const over = (a, b) => (a << BigInt(POINT)) / b;
  const size = (x) => (x < 0n ? -x : x);

  function fixed(x) {
    const [m, e] = dyadic(x);
    const shift = POINT + e;
    return shift >= 0 ? m << BigInt(shift) : m / (1n << BigInt(-shift));
  }

  function exp(x) {
    // of x >= 0: all terms are positive
    let [term, total] = [ONE, ONE];
    for (let k = 1n; term > 0n; k++) {
      term = times(term, x) / k;
      total += term;
    }
    return total;
  }

  function ln(y) {
    // Halley's steps on exp, from float64's logarithm: the digits triple
    const start = bitLength(y) - 60;
    let x = fixed(Math.log(Number(y >> BigInt(start))) + (start - POINT) * Math.LN2);
    for (let step = 0; step < 5; step++) {
      const power = x < 0n ? over(ONE, exp(-x)) : exp(x);
      x += over(2n * (y - power), y + power);
    }
    return x;
  }

  function root(x) {
    // the integer square root
    let guess = 1n << BigInt((bitLength(x) + 1) >> 1);
    for (;;) {
      const next = (guess + x / guess) >> 1n;
      if (next >= guess) return guess;
      guess = next;
    }
  }

  function arctan(n) {
    // of 1/n
    let [power, total, sign] = [ONE / n, 0n, 1n];
    for (let k = 1n; power > 0n; k += 2n) {
      total += (sign * power) / k;
      power /= n * n;
      sign = -sign;
    }
    return total;
  }

  let rootOfTwoPi = null;

  function cdf(x) {
    rootOfTwoPi ??= root((2n * (16n * arctan(5n) - 4n * arctan(239n))) << BigInt(POINT)); // J. Machin's formula
    const bound = 40n * ONE;
    const argument = x > bound ? bound : x < -bound ? -bound : x;
    const square = times(argument, argument);
    let [term, total] = [argument, argument];
    for (let odd = 3n; size(term) > 1n; odd += 2n) {
      term = times(term, square) / odd;
      total += term;
    }
    return ONE / 2n + over(over(total, exp(square / 2n)), rootOfTwoPi);
  }

  function truncatedNumbers(mean, std, a, b, dtype) {
    const type = dtype === "float64" ? F64 : F32;
    const standard = (x) => {
      if (!Number.isFinite(x)) return (x > 0 ? 40n : -40n) * ONE;
      // The quotient of two exact differences: no digit is lost where both are small
      const [m, e] = difference(x, mean);
      const [ms, es] = dyadic(std);
      const shift = POINT + e - es;
      return shift >= 0 ? (m << BigInt(shift)) / ms : m / (ms << BigInt(-shift));
    };
    const [alpha, beta] = [standard(a), standard(b)];
    const [below, above] = [cdf(alpha), cdf(-beta)];
    const mass = cdf(beta) - below;
    const pUnit = beta < 0n ? cdf(beta) : ONE;
    const qUnit = alpha > 0n ? cdf(-alpha) : ONE;
    const each = mass; // of 2^-POINT / STEPS: the division by STEPS is exact, so it waits
    const number = (x, steps = 1n) => {
      if (x === 0n) return 0;
      return type.r(nearest(x, -POINT - (steps === 1n ? 0 : bitLength(steps) - 1)));
    };
    // centre, of 2^-POINT; it is rounded far behind the point, so that a half is a half
    const centre = over((ONE / 2n - below) * type.STEPS, each) - ONE / 2n;
    const coarse = BigInt(POINT - 1100);
    const half = 1n << (coarse - 1n);
    const near = (centre + half) >> coarse; // of 2^-1100
    const unit = 1n << 1100n;
    let anchor = near >> 1100n;
    const rest = near - anchor * unit;
    if (rest * 2n > unit || (rest * 2n === unit && anchor & 1n)) anchor += 1n;
    if (anchor < 0n) anchor = 0n;
    if (anchor > type.STEPS - 1n) anchor = type.STEPS - 1n;
    return {
      p_start: number(over(below, pUnit)),
      p_step: number(over(each, pUnit), type.STEPS),
      q_start: number(over(above, qUnit)),
      q_step: number(over(each, qUnit), type.STEPS),
      w_unit: number(-ln(times(4n * pUnit, qUnit))),
      d_start: number(times(anchor * ONE - centre, each), type.STEPS),
      d_step: number(each, type.STEPS),
      anchor,
      mean: type.r(mean),
      std: type.r(std),
      first: a === -Infinity ? -FORMATS[dtype].largest : ceilTo(a, dtype),
      last: b === Infinity ? FORMATS[dtype].largest : floorTo(b, dtype),
    };
  }

  function difference(x, y) {
    const [mx, ex] = dyadic(x);
    const [my, ey] = dyadic(y);
    const low = Math.min(ex, ey);
    return [(mx << BigInt(ex - low)) - (my << BigInt(ey - low)), low];
  }

  // --- Distributions (section 5) -------------------------------------------------------------------------------------

  // Each makes, from its numbers, the function of an element's index that returns its value in the type it is drawn in.
  const DISTRIBUTIONS = {
    constant: ({ value }, { type }) => ({ numbers: {}, draw: () => type.r(value) }),

    uniform({ low, high }, { type, dtype, stream, seed }) {
      if (low > high) throw new RangeError(`the lower bound is at most the upper one, not ${low} and ${high}`);
      within([low, high], dtype);
      if (low === high) return DISTRIBUTIONS.constant({ value: low + 0 }, { type });
      if (!Number.isFinite(type.r(high - low))) throw new RangeError("the interval is too wide for the dtype");
      const numbers = {
        low: type.r(low),
        width: type.r(high - low),
        first: ceilTo(low, dtype),
        last: floorTo(belowOf(high), dtype),
      };
      if (numbers.first > numbers.last) throw new RangeError(`no ${dtype} lies in [${low}, ${high})`);
      const draw = (e) => {
        const x = drawn(e, stream, seed, type);
        const u = type === F32 ? Number(x >> 8n) * 2 ** -24 : Number(x >> 11n) * 2 ** -53;
        return clamp(type.fma(u, numbers.width, numbers.low), numbers.first, numbers.last);
      };
      return { numbers, draw };
    },

    normal({ mean, std }, { type, dtype, stream, seed }) {
      if (std < 0) throw new RangeError(`std is 0 or more, not ${std}`);
      const reach = dtype === "float64" ? 9.5 : 6.77;
      within([mean - reach * std, mean + reach * std], dtype);
      if (std === 0) return DISTRIBUTIONS.constant({ value: mean + 0 }, { type });
      const { r, fma } = type;
      const numbers = { mean: r(mean), std: r(std) };
      const draw = (e) => {
        const even = e & ~1n;
        const radius = r(Math.sqrt(r(-2 * logWord(drawn(even, stream, seed, type), type))));
        const [sin, cos] = sincosWord(drawn(even + 1n, stream, seed, type), type);
        return fma(r(radius * (e === even ? cos : sin)), numbers.std, numbers.mean);
      };
      return { numbers, draw };
    },

    trunc_normal({ mean, std, a, b }, { type, dtype, stream, seed }) {
      if (!(std > 0)) throw new RangeError(`std is above 0, not ${std}`);
      if (!(a < b)) throw new RangeError(`a is below b, not ${a} and ${b}`);
      if (a > mean + 37 * std || b < mean - 37 * std)
        throw new RangeError("the interval lies within 37 std of the mean");
      const reach = dtype === "float64" ? 9.5 : 6.77;
      within([Number.isFinite(a) ? a : Math.min(mean, b) - reach * std], dtype);
      within([Number.isFinite(b) ? b : Math.max(mean, a) + reach * std], dtype);
      const n = truncatedNumbers(mean, std, a, b, dtype);
      if (n.first > n.last) throw new RangeError(`no ${dtype} lies in [${a}, ${b}]`);
      const { r, fma, STEPS } = type;
      const draw = (e) => {
        const x = drawn(e, stream, seed, type);
        const k = type === F32 ? x : x >> 11n;
        const p = fma(r(float(k, type) + 0.5), n.p_step, n.p_start);
        const q = fma(r(float(STEPS - 1n - k, type) + 0.5), n.q_step, n.q_start);
        const w = r(n.w_unit - log(r(p * q), type));
        const d = fma(float(k - n.anchor, type), n.d_step, n.d_start);
        return clamp(fma(quantile(d, w, type), n.std, n.mean), n.first, n.last);
      };
      return { numbers: n, draw };
    },
  };

  const belowOf = below; // `below` is a probability in the truncated normal

  function within(bounds, dtype) {
    const { largest } = FORMATS[dtype];
    for (const bound of bounds)
      if (!(Math.abs(bound) <= largest)) throw new RangeError(`${dtype} reaches ${largest}, and a value may be ${bound}`);
  }

  // --- Methods (section 8) -------------------------------------------------------------------------------------------

  function gainOf(nonlinearity, slope = 0.01) {
    const one = "linear conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d sigmoid".split(" ");
    if (one.includes(nonlinearity)) return 1;
    if (nonlinearity === "leaky_relu") return Math.sqrt(2 / (1 + slope * slope));
    const gain = { tanh: 5 / 3, relu: Math.sqrt(2), selu: 0.75 }[nonlinearity];
    if (gain === undefined) throw new RangeError(`no gain is known for ${nonlinearity}`);
    return gain;
  }

  function gainFrom(gain) {
    if (typeof gain === "number") return gain;
    const [nonlinearity, slope] = gain.split(":");
    return slope === undefined ? gainOf(nonlinearity) : gainOf(nonlinearity, Number(slope));
  }

  function fans(shape) {
    if (shape.length < 2) throw new RangeError("fans need a shape of two axes or more");
    const field = shape.slice(2).reduce((product, axis) => product * axis, 1n);
    return [shape[1] * field, shape[0] * field];
  }

  function xavier(shape, { gain = 1 }) {
    const [fanIn, fanOut] = fans(shape);
    return gainFrom(gain) * Math.sqrt(2 / Number(fanIn + fanOut));
  }

  function kaiming(shape, { a = 0, mode = "fan_in", nonlinearity = "leaky_relu" }) {
    const [fanIn, fanOut] = fans(shape);
    return gainOf(nonlinearity, a) / Math.sqrt(Number(mode === "fan_in" ? fanIn : fanOut));
  }

  const uniform = (bound) => ["uniform", { low: -bound, high: bound }];
  const normal = (std) => ["normal", { mean: 0, std }];

  function scaled(shape, { scale = 1, mode = "fan_in", distribution = "truncated_normal" }) {
    const [fanIn, fanOut] = fans(shape).map(Number);
    const fan = {
      fan_in: fanIn,
      fan_out: fanOut,
      fan_avg: (fanIn + fanOut) / 2,
      fan_geo_avg: Math.sqrt(fanIn * fanOut),
    }[mode];
    const variance = scale / fan;
    if (distribution === "uniform") return uniform(Math.sqrt(3 * variance));
    if (distribution === "normal" || variance === 0) return normal(Math.sqrt(variance));
    const std = Math.sqrt(variance) / 0.87962566103423978;
    return ["trunc_normal", { mean: 0, std, a: -2 * std, b: 2 * std }];
  }

  // method -> [its parameters, (shape, parameters) -> [distribution, its numbers in float64]]
  const METHODS = {
    uniform: ["a b", (_, { a = 0, b = 1 }) => ["uniform", { low: a, high: b }]],
    normal: ["mean std", (_, { mean = 0, std = 1 }) => ["normal", { mean, std }]],
    trunc_normal: [
      "mean std a b lower upper",
      (_, { mean = 0, std = 1, a = -2, b = 2, lower, upper }) => [
        "trunc_normal",
        {
          mean,
          std,
          a: lower === undefined ? a : mean + lower * std,
          b: upper === undefined ? b : mean + upper * std,
        },
      ],
    ],
    constant: ["val", (_, { val }) => ["constant", { value: val }]],
    ones: ["", () => ["constant", { value: 1 }]],
    zeros: ["", () => ["constant", { value: 0 }]],
    xavier_uniform: ["gain", (shape, p) => uniform(Math.sqrt(3) * xavier(shape, p))],
    xavier_normal: ["gain", (shape, p) => normal(xavier(shape, p))],
    kaiming_uniform: ["a mode nonlinearity", (shape, p) => uniform(Math.sqrt(3) * kaiming(shape, p))],
    kaiming_normal: ["a mode nonlinearity", (shape, p) => normal(kaiming(shape, p))],
    variance_scaling: ["scale mode distribution", scaled],
    lecun_uniform: ["", (shape) => scaled(shape, { distribution: "uniform" })],
    lecun_normal: ["", (shape) => scaled(shape, {})],
  };
  Object.assign(METHODS, {
    glorot_uniform: METHODS.xavier_uniform,
    glorot_normal: METHODS.xavier_normal,
    he_uniform: METHODS.kaiming_uniform,
    he_normal: METHODS.kaiming_normal,
  });

  // A tensor: what `at(e)` and `bits(e)` say of the element with the flat index e. With `row`, an integer or a text, it
  // is that row of a keyed table, and e is the column; the shape is then [1, columns].
  function tensor({ method, parameters = {}, shape, dtype = "float32", seed = 0, name = "", row }) {
    if (!METHODS[method]) throw new RangeError(`no method ${method}: ${Object.keys(METHODS).join(", ")}`);
    if (!FORMATS[dtype]) throw new RangeError(`no dtype ${dtype}: ${Object.keys(FORMATS).join(", ")}`);
    const [known, resolve] = METHODS[method];
    for (const [key, value] of Object.entries(parameters)) {
      if (!known.split(" ").includes(key)) throw new RangeError(`${method} has no parameter ${key}`);
      if (Number.isNaN(value)) throw new RangeError(`${key} is a number`);
    }
    if (method === "constant" && parameters.val === undefined) throw new RangeError("constant needs val");
    const sizes = shape.map(BigInt);
    const count = sizes.reduce((product, axis) => product * axis, 1n);
    if (sizes.some((axis) => axis < 0n) || count >= 2n ** 63n)
      throw new RangeError("a shape has sizes of 0 or more, and fewer than 2^63 elements");
    if (BigInt(seed) < 0n || BigInt(seed) > M64) throw new RangeError("a seed is 0 ... 2^64 - 1");
    const type = dtype === "float64" ? F64 : F32;
    const keyed = row !== undefined;
    const key = keyed ? tableKey(seed, name) : BigInt(seed);
    const stream = !keyed ? streamId(name) : typeof row === "string" ? textKey(row) : BigInt.asUintN(64, BigInt(row));
    const [distribution, given] = resolve(sizes, parameters);
    const { numbers, draw } = DISTRIBUTIONS[distribution](given, { type, dtype, stream, seed: key });
    const at = (e) => {
      const index = BigInt(e);
      if (index < 0n || index >= count) throw new RangeError(`an index is 0 ... ${count - 1n}, not ${index}`);
      return round(draw(index), dtype);
    };
    return { at, bits: (e) => encode(at(e), dtype), distribution, given, numbers, stream, count, dtype };
  }

  return { tensor, philox, words, streamId, tableKey, textKey, encode, round, fma32, fma64, truncatedNumbers, FORMATS, METHODS };
});
