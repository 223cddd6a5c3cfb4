import type { Btf, BtfType } from "./btf.ts";
import { type Budget, declare, keywordOf } from "./declare.ts";
import { enumName, enumValue } from "./enums.ts";
import { KIND } from "./format.ts";
import {
  elementsOf,
  isAlias,
  isComposite,
  layoutOf,
  MAX_DEPTH,
  type MemberRecord,
  memberRecord,
  resolve,
  sizeOfType,
} from "./resolve.ts";

/** The largest structs and enums of Debian's kernels have some 900 members. */
const MAX_LINES = 4096;
/** Names, stars, brackets and parameters of one description. */
const MAX_PIECES = 32_768;
/** Anonymous structs within each other. */
const MAX_NESTING = 16;
/** Comments line up behind declarations of at most so many characters. */
const MAX_COLUMN = 72;
const INDENT = "  ";

interface Line {
  readonly text: string;
  readonly comment: string;
}

interface Description {
  readonly btf: Btf;
  readonly lines: Line[];
  readonly budget: Budget;
}

/** See `BtfTypes.describe`. */
export function describeBtfType(btf: Btf, type: BtfType): readonly string[] {
  const to: Description = { btf, lines: [], budget: { pieces: MAX_PIECES } };
  const name = btf.string(type.nameOffset);
  const size = sizeOfType(btf, type.id);
  const sized = size === undefined ? "" : `size: ${size}`;
  if (hasBody(type)) addBody(to, type, { before: "", after: `;`, name, comment: sized }, 0, 0);
  else if (type.kind === KIND.TYPEDEF) addTypedef(to, type, name, sized);
  else if (type.kind === KIND.FUNC) add(to, `${declare(btf, type.id, name, to.budget)};`, "");
  else if (type.kind === KIND.FWD) add(to, `${keywordOf(type)} ${name};`, "declared only");
  else add(to, `${name};`, sized);
  return aligned(to.lines);
}

const hasBody = (type: BtfType): boolean =>
  isComposite(type.kind) || type.kind === KIND.ENUM || type.kind === KIND.ENUM64;

function addTypedef(to: Description, type: BtfType, name: string, sized: string): void {
  const { btf } = to;
  const target = anonymousBody(btf, type.sizeOrType);
  if (target === undefined) {
    add(to, `typedef ${declare(btf, type.sizeOrType, name, to.budget)};`, sized);
    return;
  }
  const after = ` ${declared(to, type.sizeOrType, name)};`;
  addBody(to, target, { before: "typedef ", after, name: "", comment: sized }, 0, 0);
}

/** What stands around a body: `before struct name { comment … } after`. */
interface Around {
  readonly before: string;
  readonly after: string;
  readonly name: string;
  readonly comment: string;
  /** Behind the closing bracket. */
  readonly closing?: string;
}

function addBody(to: Description, type: BtfType, around: Around, base: number, nesting: number): void {
  const margin = INDENT.repeat(nesting);
  const name = around.name === "" ? "" : `${around.name} `;
  add(to, `${margin}${around.before}${keywordOf(type)} ${name}{`, around.comment);
  for (let n = 0; n < type.count; n++) {
    if (to.lines.length >= MAX_LINES || to.budget.pieces < 0) {
      add(to, `${margin}${INDENT}…`, `${type.count - n} more`);
      break;
    }
    if (isComposite(type.kind)) addMember(to, memberRecord(type, n), base, nesting + 1);
    else addValue(to, type, n, nesting + 1);
  }
  add(to, `${margin}}${around.after}`, around.closing ?? "");
}

function addValue(to: Description, type: BtfType, n: number, nesting: number): void {
  const name = to.btf.string(enumName(type, n));
  add(to, `${INDENT.repeat(nesting)}${name} = ${enumValue(to.btf, type, n)},`, "");
}

function addMember(to: Description, record: MemberRecord, base: number, nesting: number): void {
  const { btf } = to;
  const margin = INDENT.repeat(nesting);
  const layout = layoutOf(btf, { record, base });
  const bits = layout?.bits;
  const offset = layout?.offset ?? base + Math.floor(record.bitOffset / 8);
  const place = `${offset}${bits ? `:${bits.shift}` : ""} ${layout?.size ?? "?"}`;
  const name = btf.string(record.nameOffset);
  const body = anonymousBody(btf, record.type);
  if (body === undefined || nesting > MAX_NESTING) {
    const width = bits ? `:${bits.width}` : "";
    add(to, `${margin}${declare(btf, record.type, name, to.budget)}${width};`, place);
    return;
  }
  const inner = declared(to, record.type, name);
  const after = `${inner === "" ? "" : ` ${inner}`};`;
  addBody(to, body, { before: "", after, name: "", comment: "", closing: place }, offset, nesting);
}

/** The struct, union or enum without a name that a type is made of, with qualifiers and dimensions between at most. */
function anonymousBody(btf: Btf, id: number): BtfType | undefined {
  let type = btf.type(id);
  for (let depth = 0; depth < MAX_DEPTH; depth++) {
    if (type === undefined || type.kind === KIND.TYPEDEF) return undefined;
    if (!isAlias(type.kind) && type.kind !== KIND.ARRAY) break;
    type = btf.type(type.kind === KIND.ARRAY ? type.word(0) : type.sizeOrType);
  }
  return type !== undefined && hasBody(type) && type.nameOffset === 0 ? type : undefined;
}

/** The declarator of what an anonymous body is given to: name and dimensions. */
function declared(to: Description, id: number, name: string): string {
  const isArray = resolve(to.btf, id)?.kind === KIND.ARRAY;
  return isArray ? `${name}[${elementsOf(to.btf, id)?.count ?? "?"}]` : name;
}

const add = (to: Description, text: string, comment: string): void => {
  to.lines.push({ text, comment });
};

function aligned(lines: readonly Line[]): string[] {
  const lengths = lines.filter(({ comment }) => comment !== "").map(({ text }) => text.length);
  let column = 0;
  for (const length of lengths) if (length <= MAX_COLUMN) column = Math.max(column, length);
  return lines.map(({ text, comment }) =>
    comment === "" ? text : `${text.padEnd(column)}  /* ${comment} */`,
  );
}
