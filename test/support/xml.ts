/** A part of an XML document. */
export interface XmlNode {
  readonly name: string;
  readonly attributes: Readonly<Record<string, string>>;
  readonly children: XmlNode[];
  text: string;
}

/** Characters that XML 1.0 allows (production 2). */
const CHARS = /^[\t\n\r\u0020-\ud7ff\ue000-\ufffd\u{10000}-\u{10ffff}]*$/u;
const REFERENCE = /&#(\d+);/g;

/** Reads a document strictly: whatever is not well-formed is an error. No DTD, comments, CDATA or named entities. */
export function readXml(document: string): XmlNode {
  if (!CHARS.test(document)) throw new Error("a character that XML does not allow");
  const declaration = '<?xml version="1.0" encoding="UTF-8"?>\n';
  if (!document.startsWith(declaration)) throw new Error("no XML declaration");
  const top: XmlNode = { name: "", attributes: {}, children: [], text: "" };
  const open = [top];
  const rest = document.slice(declaration.length);
  const token = /<(\/?)([a-z-]+)((?: [a-z]+="[^"<]*")*)(\/?)>|([^<]+)|(.)/gs;
  for (const [, closing, name, attributes, empty, text, wrong] of rest.matchAll(token)) {
    const parent = open.at(-1)!;
    if (wrong !== undefined) throw new Error("a < that begins no tag");
    if (text !== undefined) parent.text += decode(text);
    else if (closing === "/") {
      if (open.pop()?.name !== name) throw new Error(`</${name}> closes nothing`);
    } else {
      const node = { name: name!, attributes: attributesOf(attributes!), children: [], text: "" };
      parent.children.push(node);
      if (empty === "") open.push(node);
    }
  }
  if (open.length !== 1 || top.children.length !== 1 || top.text.trim() !== "")
    throw new Error("not one element");
  return top.children[0]!;
}

const attributesOf = (text: string): Record<string, string> =>
  Object.fromEntries(
    [...text.matchAll(/ ([a-z]+)="([^"]*)"/g)].map(([, name, value]) => [name!, decode(value!)]),
  );

function decode(text: string): string {
  if (text.replace(REFERENCE, "").includes("&")) throw new Error("a & that begins no reference");
  if (text.includes("]]>")) throw new Error("]]> in text");
  const decoded = text.replace(REFERENCE, (_, code) => String.fromCodePoint(Number(code)));
  if (!CHARS.test(decoded)) throw new Error("a reference to a character that XML does not allow");
  return decoded;
}
