import {
  type AddressForm,
  type AddressTables,
  chooseAddresses,
  type KnownSymbol,
} from "./kallsyms-addresses.ts";
import { findKallsyms, type KallsymsTables } from "./kallsyms-find.ts";
import { type DecodedNames, decodeNames, MAX_COMPRESSED_NAMES, readTokens } from "./kallsyms-names.ts";
import type { KernelImage } from "./kernel-image.ts";
import type { KernelReader } from "./reader.ts";
import { MAX_SYMBOLS } from "./symbol-names.ts";
import { SymbolTable } from "./symbol-table.ts";
import type { Vmcoreinfo } from "./vmcoreinfo.ts";

/** A kernel's own symbols (CONFIG_KALLSYMS), without its modules'. */
export interface Kallsyms {
  readonly symbols: SymbolTable;
  /** How many there are; more than `symbols.size` where memory is missing or damaged. */
  readonly total: number;
  readonly form: AddressForm;
  /** Who told where the tables are: VMCOREINFO (6.0+), or a search of the kernel's image. */
  readonly source: "VMCOREINFO" | "search";
}

/** Symbols, or why there are none. */
export type KallsymsOutcome =
  | { readonly kallsyms: Kallsyms; readonly reason?: undefined }
  | { readonly kallsyms?: undefined; readonly reason: string };

/** What is known of a kernel beforehand. */
export interface KallsymsEvidence {
  readonly vmcoreinfo?: Vmcoreinfo | undefined;
  /** Of `LinuxImage.text`: searched where VMCOREINFO does not lead to the tables. */
  readonly image?: KernelImage | undefined;
}

/** Reads a kernel's symbol table from its memory. Time and memory are bounded whatever the tables hold. */
export function readKallsyms(reader: KernelReader, evidence: KallsymsEvidence): KallsymsOutcome {
  const { vmcoreinfo, image } = evidence;
  const known = knownSymbol(vmcoreinfo, image);
  const told = vmcoreinfo && tablesOf(reader, vmcoreinfo);
  const first = told && decode(reader, told, known, "VMCOREINFO");
  if (first?.kallsyms !== undefined) return first;
  const found = image && findKallsyms(reader, image);
  if (found !== undefined) return decode(reader, found, known, "search");
  if (first !== undefined) return first;
  const where =
    image === undefined ? "where the kernel's image lies is not known" : "none in the kernel's image";
  return { reason: `VMCOREINFO does not say where the symbol table is, and ${where}` };
}

/** The tables as VMCOREINFO names them (kernel/vmcore_info.c, 6.0+); undefined when it does not name them all. */
function tablesOf(reader: KernelReader, vmcoreinfo: Vmcoreinfo): KallsymsTables | undefined {
  const tokenTable = vmcoreinfo.symbol("kallsyms_token_table");
  const tokenIndex = vmcoreinfo.symbol("kallsyms_token_index");
  const names = vmcoreinfo.symbol("kallsyms_names");
  const counter = vmcoreinfo.symbol("kallsyms_num_syms");
  const addresses = addressTables(vmcoreinfo);
  if (tokenTable === undefined || tokenIndex === undefined || names === undefined) return undefined;
  if (counter === undefined || addresses.length === 0) return undefined;
  return { tokenTable, tokenIndex, names, count: reader.u32(counter) ?? 0, addresses };
}

function addressTables(vmcoreinfo: Vmcoreinfo): AddressTables[] {
  const offsets = vmcoreinfo.symbol("kallsyms_offsets");
  const base = vmcoreinfo.symbol("kallsyms_relative_base");
  const addresses = vmcoreinfo.symbol("kallsyms_addresses");
  const candidates: AddressTables[] = [];
  if (offsets !== undefined && base !== undefined) {
    candidates.push({ form: "absolute-percpu", table: offsets, base });
    candidates.push({ form: "base-relative", table: offsets, base });
  }
  if (offsets !== undefined) candidates.push({ form: "place-relative", table: offsets });
  if (addresses !== undefined) candidates.push({ form: "absolute", table: addresses });
  return candidates;
}

function knownSymbol(
  vmcoreinfo: Vmcoreinfo | undefined,
  image: KernelImage | undefined,
): KnownSymbol | undefined {
  const stext = vmcoreinfo?.symbol("_stext");
  if (stext !== undefined) return { name: "_stext", address: stext };
  return image && { name: "_text", address: image.virtual };
}

function decode(
  reader: KernelReader,
  tables: KallsymsTables,
  known: KnownSymbol | undefined,
  source: Kallsyms["source"],
): KallsymsOutcome {
  const { tokenTable, count } = tables;
  // Names lie in front of the tokens, whatever else lies between (scripts/kallsyms.c: write_src()).
  const room = tokenTable - tables.names;
  const makesSense = count > 0 && count <= MAX_SYMBOLS && room > 0n && room <= BigInt(MAX_COMPRESSED_NAMES);
  if (!makesSense) return { reason: "the symbol table's head makes no sense, or is not in memory" };
  const tokens = readTokens(reader, tokenTable, tables.tokenIndex);
  if (tokens === undefined)
    return { reason: "the symbol table's tokens make no sense, or are not in memory" };
  const bytes = Buffer.alloc(Number(room));
  const compressed = bytes.subarray(0, reader.read(tables.names, bytes));
  const escaped = decodeNames(compressed, count, tokens, "escaped");
  const { names } = escaped.broken
    ? better(escaped, decodeNames(compressed, count, tokens, "plain"))
    : escaped;
  const chosen = chooseAddresses(reader, tables.addresses, names, known);
  if (chosen === undefined) {
    const what = known === undefined ? "makes them ascend" : `puts ${known.name} where it is`;
    return { reason: `no known form of the symbol table's addresses ${what}` };
  }
  const symbols = new SymbolTable(names, chosen.addresses);
  return { kallsyms: { symbols, total: count, form: chosen.form, source } };
}

/** The first broken one only where the other broke before it. */
const better = (first: DecodedNames, second: DecodedNames): DecodedNames =>
  second.names.size > first.names.size ? second : first;
