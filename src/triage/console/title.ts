import { STOP_CODES } from "../qmp/stop-codes.ts";
import type { IncidentClass } from "./classes.ts";
import { decoded } from "./decoded.ts";
import type { SignatureMatch } from "./matcher.ts";

export const MAX_TITLE = 240;
const SOURCE_TREE =
  /^\/.{0,200}?\/((?:arch|block|certs|crypto|drivers|fs|include|init|io_uring|ipc|kernel|lib|mm|net|rust|security|sound|virt)\/.*)$/;

/** What is known of an incident besides its headline. */
interface Facts {
  readonly class: IncidentClass;
  /** The guilty function. */
  readonly place: string | undefined;
  /** What the line behind the first one said of it. */
  readonly reason: string | undefined;
  /** What a line before its first one said of it. */
  readonly told: string | undefined;
}

/** One line of what happened, without addresses. */
export function titleOf({ signature, groups }: SignatureMatch, facts: Facts): string {
  const { place, reason, told } = facts;
  const at = sourceOf(groups[1]);
  if (told !== undefined) return `${told}${place === undefined ? "" : ` in ${place}`}`;
  if (signature.title === "WARNING" && place === undefined) return `WARNING at ${at}:${groups[2] ?? "?"}`;
  const filled = signature.title
    .replaceAll("$+", groups.slice(1).find((group) => group !== undefined) ?? "")
    .replace(/\$(\d)/g, (_, digit: string) => (digit === "1" ? at : (groups[Number(digit)] ?? "")))
    .replace(/:\s*$/, "");
  const reasoned = reason === undefined ? filled : `${filled}: ${reason}`;
  const named = facts.class === "bugcheck" ? withStopName(reasoned) : reasoned;
  const title = signature.inFrame === true && place !== undefined ? `${named} in ${place}` : named;
  return decoded(withoutAddresses(title), MAX_TITLE);
}

/** A file of the kernel's source without where it was built. */
const sourceOf = (path: string | undefined): string =>
  (path ?? "").replace(SOURCE_TREE, "$1").replace(/^(?:\.\.?\/)+/, "");

/** A bug check with its name, which Windows does not print. */
const withStopName = (title: string): string => {
  const code = /\b(?:0x)?([0-9A-Fa-f]{1,8})$/.exec(title)?.[1];
  const name = code === undefined ? undefined : STOP_CODES[Number.parseInt(code, 16)];
  return name === undefined ? title : `${title} ${name}`;
};

const withoutAddresses = (title: string): string =>
  title.replace(/\b(?:0x)?[0-9a-f]{9,16}\b/g, "ADDR").replace(/\+0x[0-9a-f]{1,8}\/0x[0-9a-f]{1,8}/g, "");
