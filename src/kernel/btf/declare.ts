import type { Btf, BtfType } from "./btf.ts";
import { KIND } from "./format.ts";
import { MAX_DEPTH } from "./resolve.ts";

/** Parameters shown of a function; the kernel's have at most a dozen. */
const MAX_PARAMETERS = 32;

/** What is left to print of a description: types share it, for they may refer to each other without end. */
export interface Budget {
  pieces: number;
}

const KEYWORD: Readonly<Record<number, string>> = {
  [KIND.STRUCT]: "struct",
  [KIND.UNION]: "union",
  [KIND.ENUM]: "enum",
  [KIND.ENUM64]: "enum",
};
const QUALIFIER: Readonly<Record<number, string>> = {
  [KIND.CONST]: "const",
  [KIND.VOLATILE]: "volatile",
  [KIND.RESTRICT]: "restrict",
};

/** `struct`, `union`, `enum` or, of a declaration alone, whichever of the first two it is. */
export function keywordOf(type: BtfType): string {
  if (type.kind === KIND.FWD) return type.flag ? "union" : "struct";
  return KEYWORD[type.kind] ?? "";
}

/**
 * C's declaration of a name of some type, inside out as C has it: `void (*ops[4])(struct file *)`. Structs, unions and
 * enums appear by name, without one as `struct {…}`.
 * @param inner what is declared; "" for a type alone
 */
export function declare(btf: Btf, id: number, inner: string, budget: Budget, depth = 0): string {
  if (id === 0) return joined("void", inner);
  const type = btf.type(id);
  if (type === undefined || depth > MAX_DEPTH || --budget.pieces < 0) return joined("…", inner);
  const next = type.sizeOrType;
  switch (type.kind) {
    case KIND.PTR:
      return declare(btf, next, pointer(btf, next, inner), budget, depth + 1);
    case KIND.ARRAY:
      return declare(btf, type.word(0), `${inner}[${type.word(2)}]`, budget, depth + 1);
    case KIND.FUNC_PROTO:
      return declare(btf, next, `${inner}(${parameters(btf, type, budget, depth)})`, budget, depth + 1);
    case KIND.FUNC:
      return declare(btf, next, inner, budget, depth + 1);
    case KIND.CONST:
    case KIND.VOLATILE:
    case KIND.RESTRICT:
      return qualified(btf, type, inner, budget, depth);
    case KIND.TYPE_TAG:
      // What sparse and clang know as __user, __rcu, __percpu.
      return declare(btf, next, joined(`__${btf.string(type.nameOffset)}`, inner), budget, depth + 1);
    default:
      return joined(nameOf(btf, type), inner);
  }
}

function nameOf(btf: Btf, type: BtfType): string {
  const name = btf.string(type.nameOffset);
  const keyword = keywordOf(type);
  if (keyword === "") return name === "" ? "…" : name;
  return `${keyword} ${name === "" ? "{…}" : name}`;
}

/** Brackets keep a pointer to an array or a function from becoming an array or a function of pointers. */
function pointer(btf: Btf, target: number, inner: string): string {
  const kind = btf.type(target)?.kind;
  return kind === KIND.ARRAY || kind === KIND.FUNC_PROTO ? `(*${inner})` : `*${inner}`;
}

/** Behind the star where a pointer is meant, before the type otherwise. */
function qualified(btf: Btf, type: BtfType, inner: string, budget: Budget, depth: number): string {
  const word = QUALIFIER[type.kind]!;
  const target = btf.type(type.sizeOrType);
  const isDeclarator = target?.kind === KIND.PTR || (target !== undefined && target.kind in QUALIFIER);
  return isDeclarator
    ? declare(btf, type.sizeOrType, joined(word, inner), budget, depth + 1)
    : joined(word, declare(btf, type.sizeOrType, inner, budget, depth + 1));
}

/** A last parameter without name and type is `...`. */
function parameters(btf: Btf, prototype: BtfType, budget: Budget, depth: number): string {
  const shown: string[] = [];
  for (let n = 0; n < prototype.count; n++) {
    if (n === MAX_PARAMETERS || budget.pieces < 0) {
      shown.push("…");
      break;
    }
    const [name, type] = [prototype.word(2 * n), prototype.word(2 * n + 1)];
    const isRest = name === 0 && type === 0;
    shown.push(isRest ? "..." : declare(btf, type, btf.string(name), budget, depth + 1));
  }
  return shown.length === 0 ? "void" : shown.join(", ");
}

const joined = (type: string, inner: string): string => (inner === "" ? type : `${type} ${inner}`);
