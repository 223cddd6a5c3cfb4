import { latin1 } from "../../core/bytes.ts";

/**
 * A console as the value of one JSON document: EC2's GetConsoleOutput (`Output`), Compute Engine's getSerialPortOutput
 * (`contents`), Nova's os-getConsoleOutput (`output`).
 */
const BEGINS =
  /^\s{0,16}\{(?:\s{0,40}"\w{1,40}"\s{0,4}:\s{0,4}(?:"[^"\\]{0,400}"|-?\d{1,20}),){0,8}\s{0,40}"(?:Output|contents|output)"\s{0,4}:\s{0,4}"/;
/** An object of one line with another behind it: records, such as those of `go test -json`, whose `Output` is a line each. */
const RECORDS = /^\s{0,16}\{[^\n]{0,4096}\}\s{0,8}\n\s{0,8}\{/;
/** Most that stands before the text. */
export const DOCUMENT_HEAD = 4096;

/** Where in a text the console of such a document begins; -1 when it is none, as far as it goes. */
export function documentStart(text: string): number {
  const head = text.slice(0, DOCUMENT_HEAD);
  return RECORDS.test(head) ? -1 : (BEGINS.exec(head)?.[0].length ?? -1);
}

/** A piece of a JSON string: what stands for itself, an escape, its end. */
const PIECE = /[^"\\]{1,8192}|\\u[0-9a-fA-F]{4}|\\[^u]|"/y;
const ESCAPES: Readonly<Record<string, string>> = { n: "\n", r: "\r", t: "\t", b: "\b", f: "\f" };
/** The API has the text in base64; no console begins with so many letters and digits. */
const BASE64 = /^[A-Za-z0-9+/]{64}/;
const BASE64_HEAD = 64;

/** The text of such a document, piece by piece. */
export class DocumentText {
  #rest = "";
  #isOver = false;
  /** Undefined until enough is there to tell. */
  #isBase64: boolean | undefined;
  #text = "";

  push(text: string): string {
    if (this.#isOver) return "";
    this.#rest += text;
    PIECE.lastIndex = 0;
    let at = 0;
    for (let piece = PIECE.exec(this.#rest)?.[0]; piece !== undefined; piece = PIECE.exec(this.#rest)?.[0]) {
      at = PIECE.lastIndex;
      this.#isOver = piece === '"';
      if (this.#isOver) break;
      this.#text += piece[0] === "\\" ? unescaped(piece) : piece;
    }
    this.#rest = this.#isOver ? "" : this.#rest.slice(at);
    return this.#take(this.#isOver);
  }

  end(): string {
    return this.#take(true);
  }

  #take(all: boolean): string {
    const text = this.#text;
    if (!all && this.#isBase64 === undefined && text.length < BASE64_HEAD) return "";
    this.#isBase64 ??= BASE64.test(text);
    this.#text = "";
    if (!this.#isBase64) return text;
    const digits = text.replace(/[^A-Za-z0-9+/]/g, "");
    const whole = all ? digits.length : digits.length - (digits.length % 4);
    this.#text = digits.slice(whole);
    return latin1(Buffer.from(digits.slice(0, whole), "base64"));
  }
}

function unescaped(piece: string): string {
  if (piece[1] !== "u") return ESCAPES[piece[1]!] ?? piece[1]!;
  return latin1(Buffer.from(String.fromCharCode(Number.parseInt(piece.slice(2), 16))));
}
