import { spawnSync } from "node:child_process";
import { describe, expect, test } from "vitest";
import { hexAddress, printable, shellWord } from "../src/core/text.ts";

describe("shellWord", () => {
  test.each([
    ["core.1", "core.1"],
    ["a b", "'a b'"],
    ["it's", "'it'\\''s'"],
    ["back\\slash", "'back\\slash'"],
    ["-rf", "./-rf"],
    ["", "''"],
    ["tab\tand\\back'quote", "$'tab\\x09and\\\\back\\'quote'"],
    ["\u0085", "$'\\xc2\\x85'"],
    ["\u202e", "$'\\xe2\\x80\\xae'"],
  ])("%j", (text, word) => {
    expect(shellWord(text)).toBe(word);
  });

  const bash = spawnSync("bash", ["--version"]).error === undefined;
  test
    .skipIf(!bash)
    .each([
      "plain",
      'it\'s a \\ "name"',
      "\\x41\n\\",
      "new\nline\\'s",
      "\u0080\u009b0m",
      "\u202eevil\u2066",
      "é ü 漢",
      "\x1b[2Jf",
      "$HOME `id` $(id) *",
    ])("bash reads %j as it was (skipped without bash)", (text) => {
    const word = shellWord(text);
    expect(printable(word)).toBe(word);
    const { stdout } = spawnSync("bash", ["-c", `printf %s ${word}`], { env: { LC_ALL: "C" } });
    expect(stdout.toString()).toBe(text);
  });
});

test("an address that no number holds keeps its column and says so", () => {
  expect(hexAddress(0x1000)).toBe("0x000000001000");
  expect(hexAddress(Number.POSITIVE_INFINITY)).toBe(">= 2^53       ");
  expect(hexAddress(Number.POSITIVE_INFINITY)).toHaveLength(hexAddress(0).length);
});

test("what turns a line round or breaks it is shown, other letters are not", () => {
  expect(printable("a\u061cb\u2028c\u2029d")).toBe("a\\u061cb\\u2028c\\u2029d");
  expect(printable("\u061b\u2027\u202f é")).toBe("\u061b\u2027\u202f é");
});
