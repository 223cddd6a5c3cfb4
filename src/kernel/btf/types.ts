import type { KernelTypes, Member } from "../types.ts";
import type { Btf, BtfType } from "./btf.ts";
import { declare } from "./declare.ts";
import { describeBtfType } from "./describe.ts";
import { constantOf } from "./enums.ts";
import { KIND } from "./format.ts";
import { elementsOf, findMember, isComposite, layoutOf, sizeOfType } from "./resolve.ts";

/** Answers kept of each kind of question. */
const CACHED_ANSWERS = 4096;
/** Longer paths than any C program has. */
const MAX_PATH_PARTS = 32;
/** Names, stars, brackets and parameters of one declaration. */
const MAX_DECLARATION = 256;

/** A type and the BTF in which its ids mean something. */
interface Found {
  readonly btf: Btf;
  readonly type: BtfType;
}

/**
 * A kernel's types as its BTF has them, and its modules'. Of types that share a name vmlinux's is taken, then the
 * modules' in their order; within one BTF a struct or union before an enum, a typedef, a basic type, and the first of
 * equals. What is only declared counts where nobody defines it.
 */
export class BtfTypes implements KernelTypes {
  /** vmlinux's, then the modules', in the order in which they are asked. */
  readonly all: readonly Btf[];
  readonly #sizes = new Map<string, number | undefined>();
  readonly #members = new Map<string, Member | undefined>();
  readonly #constants = new Map<string, bigint | undefined>();

  constructor(vmlinux: Btf, modules: readonly Btf[] = []) {
    this.all = [vmlinux, ...modules];
  }

  /** The same types, a module's own first; undefined for a module that has none here. */
  of(module: string): BtfTypes | undefined {
    const own = this.all.find(({ name }) => name === module);
    return (
      own &&
      new BtfTypes(
        own,
        [...this.all].filter((btf) => btf !== own),
      )
    );
  }

  sizeOf(type: string): number | undefined {
    return cached(this.#sizes, type, () => {
      const found = this.#find(type);
      return found && sizeOfType(found.btf, found.type.id);
    });
  }

  /** Through an array to a member of its elements: the first element's. */
  member(path: string): Member | undefined {
    return cached(this.#members, path, () => {
      const [name, ...parts] = path.split(".");
      const found = parts.length <= MAX_PATH_PARTS ? this.#find(name!) : undefined;
      return found && placedMember(found.btf, found.type.id, parts)?.member;
    });
  }

  constant(name: string): bigint | undefined {
    return cached(this.#constants, name, () => {
      for (const btf of this.all) {
        const value = constantOf(btf, name);
        if (value !== undefined) return value;
      }
      return undefined;
    });
  }

  /**
   * A type as C, for people: its members with `offset size` in bytes, as pahole(1) has them, of bitfields `offset:bit
   * size`; a function's prototype. At most some thousand lines, of which one says what is left out. Names are as
   * they are in the BTF, control characters too.
   * @returns undefined for a name that no type has
   */
  describe(name: string): readonly string[] | undefined {
    const found = this.#find(name) ?? this.#named(name, (kind) => (kind === KIND.FUNC ? 1 : 0));
    return found && describeBtfType(found.btf, found.type);
  }

  /**
   * A member as C declares it: `unsigned long regs[17]` for `kvm_vcpu.arch.regs`; structs without a name are `struct
   * {…}`. Names are as they are in the BTF.
   * @returns undefined where there is no such member
   */
  declaration(path: string): string | undefined {
    const [name, ...parts] = path.split(".");
    const found = parts.length <= MAX_PATH_PARTS ? this.#find(name!) : undefined;
    const placed = found && placedMember(found.btf, found.type.id, parts);
    if (found === undefined || placed === undefined) return undefined;
    return declare(found.btf, placed.type, parts.at(-1)!, { pieces: MAX_DECLARATION });
  }

  #find(name: string): Found | undefined {
    return this.#named(name, rankOf) ?? this.#named(name, (kind) => (kind === KIND.FWD ? 1 : 0));
  }

  /** The highest rank of the first BTF that has any. */
  #named(name: string, rank: (kind: number) => number): Found | undefined {
    for (const btf of this.all) {
      let best: BtfType | undefined;
      for (const type of btf.named(name)) {
        if (rank(type.kind) > (best === undefined ? 0 : rank(best.kind))) best = type;
      }
      if (best !== undefined) return { btf, type: best };
    }
    return undefined;
  }
}

/** How well a kind of type answers to a name; 0: not at all. */
function rankOf(kind: number): number {
  if (isComposite(kind)) return 4;
  if (kind === KIND.ENUM || kind === KIND.ENUM64) return 3;
  if (kind === KIND.TYPEDEF) return 2;
  return kind === KIND.INT || kind === KIND.FLOAT ? 1 : 0;
}

/** A member, its offset that from the start of the type that was asked, and the id of its type. */
function placedMember(
  btf: Btf,
  id: number,
  parts: readonly string[],
): { readonly member: Member; readonly type: number } | undefined {
  let composite = elementsOf(btf, id)?.type;
  let offset = 0;
  for (const [i, part] of parts.entries()) {
    if (composite === undefined || !isComposite(composite.kind)) return undefined;
    const placed = findMember(btf, composite, part);
    const member = placed && layoutOf(btf, placed);
    if (placed === undefined || member === undefined) return undefined;
    offset += member.offset;
    if (i === parts.length - 1) return { member: { ...member, offset }, type: placed.record.type };
    composite = elementsOf(btf, placed.record.type)?.type;
  }
  return undefined;
}

function cached<T>(answers: Map<string, T>, question: string, answer: () => T): T {
  const known = answers.get(question);
  if (known !== undefined || answers.has(question)) return known as T;
  const value = answer();
  if (answers.size < CACHED_ANSWERS) answers.set(question, value);
  return value;
}
