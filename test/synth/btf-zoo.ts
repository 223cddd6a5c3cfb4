import { SynthBtf } from "./btf.ts";

/** BTF with a bit of everything: `outer`, `ops`, `mode`, `pair_t`, `vcpu_run` … */
export function btfZoo(): SynthBtf {
  const btf = new SynthBtf();
  const long = btf.int("long unsigned int", 8);
  const u64 = btf.typedef("u64", long);
  const char = btf.int("char", 1, 8, 0, 1);
  const u32 = btf.int("unsigned int", 4);
  const text = btf.pointer(btf.constant(char));
  const mode = btf.enumeration("mode", { MODE_A: 0, MODE_B: 1, MODE_NONE: -1 }, true);
  const vcpu = btf.forward("vcpu");
  const run = btf.prototype(u32, [
    ["vcpu", btf.pointer(vcpu)],
    ["", btf.pointer(btf.tag("user", char))],
    ["", 0],
  ]);
  const inner = btf.struct("", 24, [
    ["a", btf.array(btf.array(u64, 2), 1), 0],
    [
      "",
      btf.union("", 8, [
        ["b", u64, 0],
        ["c", text, 0],
      ]),
      128,
    ],
  ]);
  btf.struct("ops", 32, [
    ["run", btf.pointer(run), 0],
    ["each", btf.array(btf.pointer(btf.prototype(0, [])), 3), 64],
    ["grid", btf.pointer(btf.array(btf.constant(btf.volatile(btf.pointer(0))), 4)), 256],
  ]);
  btf.struct("outer", 88, [
    ["name", btf.constant(text), 0, 0],
    ["", inner, 64, 0],
    ["mode", mode, 256, 0],
    ["on", u32, 288, 1],
    ["left", u32, 289, 31],
    ["list", btf.array(btf.struct("", 8, [["next", u64, 0]]), 4), 320, 0],
  ]);
  btf.typedef(
    "pair_t",
    btf.struct("", 16, [
      ["x", u64, 0],
      ["y", u64, 64],
    ]),
  );
  btf.func("vcpu_run", run);
  return btf;
}
