import { expect, test } from "vitest";
import { Btf } from "../src/kernel/btf/btf.ts";
import { BtfTypes } from "../src/kernel/btf/types.ts";
import { btfZoo } from "./synth/btf-zoo.ts";

const typesOf = (): BtfTypes => new BtfTypes(new Btf("vmlinux", btfZoo().build()));

test("types are described as C, with where each member is", () => {
  const types = typesOf();
  const lines = (name: string) => types.describe(name)?.map((line) => line.replace(/ +(?=\/\*)/, "  "));
  expect(lines("outer")).toEqual([
    "struct outer {  /* size: 88 */",
    "  const char *const name;  /* 0 8 */",
    "  struct {",
    "    u64 a[1][2];  /* 8 16 */",
    "    union {",
    "      u64 b;  /* 24 8 */",
    "      const char *c;  /* 24 8 */",
    "    };  /* 24 8 */",
    "  };  /* 8 24 */",
    "  enum mode mode;  /* 32 4 */",
    "  unsigned int on:1;  /* 36:0 4 */",
    "  unsigned int left:31;  /* 36:1 4 */",
    "  struct {",
    "    u64 next;  /* 40 8 */",
    "  } list[4];  /* 40 32 */",
    "};",
  ]);
  expect(lines("ops")).toEqual([
    "struct ops {  /* size: 32 */",
    "  unsigned int (*run)(struct vcpu *vcpu, char __user *, ...);  /* 0 8 */",
    "  void (*each[3])(void);  /* 8 24 */",
    "  void *volatile const (*grid)[4];  /* 32 8 */",
    "};",
  ]);
  expect(lines("mode")).toEqual([
    "enum mode {  /* size: 4 */",
    "  MODE_A = 0,",
    "  MODE_B = 1,",
    "  MODE_NONE = -1,",
    "};",
  ]);
  expect(lines("pair_t")).toEqual([
    "typedef struct {  /* size: 16 */",
    "  u64 x;  /* 0 8 */",
    "  u64 y;  /* 8 8 */",
    "} pair_t;",
  ]);
  expect(lines("u64")).toEqual(["typedef long unsigned int u64;  /* size: 8 */"]);
  expect(lines("char")).toEqual(["char;  /* size: 1 */"]);
  expect(lines("vcpu_run")).toEqual(["unsigned int vcpu_run(struct vcpu *vcpu, char __user *, ...);"]);
  expect(lines("none")).toBeUndefined();
});

test("comments line up", () => {
  expect(typesOf().describe("pair_t")).toEqual([
    "typedef struct {  /* size: 16 */",
    "  u64 x;          /* 0 8 */",
    "  u64 y;          /* 8 8 */",
    "} pair_t;",
  ]);
});
