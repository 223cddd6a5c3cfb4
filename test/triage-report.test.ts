import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { triageGithub } from "../src/report/triage-github.ts";
import { htmlText, triageHtml } from "../src/report/triage-html.ts";
import { triageJson, triageJsonLines } from "../src/report/triage-json.ts";
import { triageJunit, xmlText } from "../src/report/triage-junit.ts";
import { codeBlock, codeSpan, triageMarkdown } from "../src/report/triage-markdown.ts";
import { hasFailed } from "../src/report/triage-shared.ts";
import { triageTap } from "../src/report/triage-tap.ts";
import { triageText } from "../src/report/triage-text.ts";
import { event, finding, lockup, oops, panicEvent, source, vmOf } from "./support/triage-synth.ts";
import { readXml } from "./support/xml.ts";

const PANIC = { failOn: "panic" } as const;
/** All that has ever meant something to a terminal, XML, HTML, Markdown, Actions or TAP. */
const HOSTILE =
  "</failure></testsuites>]]><script>alert(1)</script>\x1b[31m\x00\u202e::error::x%0A%\r\n::set-output name=a::b # SKIP `code` | cell [a](javascript:x) <!-- @user #1 https://x.test \ufffe\uffff \ud800 &amp; \"' \\";

const hostile = (text = HOSTILE) =>
  vmOf(
    [
      source("console", {
        findings: [
          finding({
            title: text,
            class: text,
            signature: text,
            evidence: [
              { source: text, line: 3, text },
              { source: text, offset: 4, text },
            ],
            details: { text, n: 2n ** 63n },
          }),
        ],
        events: [event("console/boot", { text, at: { uptime: 1.5, wall: Number.NaN } })],
      }),
    ],
    { vm: text, next: [`guestcore dmesg ${text}`] },
  );
const quiet = vmOf([source("console", { events: [event("console/boot", { line: 1 })] })], { vm: "db" });
const panicked = vmOf([
  source("console", {
    findings: [finding({ at: { uptime: 30 } })],
    events: [event("console/boot", { line: 1, at: { uptime: 0 } })],
  }),
  source("qmp", { findings: [panicEvent({ at: { wall: 1_795_230_730_719 } })] }),
]);

describe("human text", () => {
  test("of a panic", () => expect(triageText(panicked, PANIC)).toMatchSnapshot());
  test("guest text cannot reach the terminal", () => {
    const text = triageText(hostile(), PANIC);
    // biome-ignore lint/suspicious/noControlCharactersInRegex: those must not be in it
    expect(text).not.toMatch(/[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\ud800-\udfff]/u);
  });
});

describe("JSON", () => {
  test("of a panic and a quiet VM", () => expect(triageJson([panicked, quiet], PANIC)).toMatchSnapshot());
  test("a line for each finding, then one for the verdict", () => {
    const lines = triageJsonLines(panicked, PANIC)
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line));
    expect(lines.map(({ type, vm }) => [type, vm])).toEqual([
      ["finding", "web"],
      ["finding", "web"],
      ["verdict", "web"],
    ]);
    expect(
      triageJsonLines(hostile(), PANIC)
        .trimEnd()
        .split("\n")
        .map((line) => JSON.parse(line).type),
    ).toEqual(["finding", "verdict"]);
  });
});

describe("JUnit", () => {
  test("of a panic and a quiet VM", () => expect(triageJunit([panicked, quiet], PANIC)).toMatchSnapshot());

  /** The rules of the schema that Jenkins and others validate with (junit-10.xsd). */
  function check(text: string): void {
    const root = readXml(text);
    expect(root.name).toBe("testsuites");
    const allowed: Record<string, readonly string[]> = {
      testsuites: ["testsuite"],
      testsuite: ["testcase", "system-out"],
      testcase: ["failure", "skipped"],
      failure: [],
      skipped: [],
      "system-out": [],
    };
    const visit = (node: ReturnType<typeof readXml>): void => {
      for (const child of node.children) {
        expect(allowed[node.name], `${child.name} in ${node.name}`).toContain(child.name);
        visit(child);
      }
    };
    visit(root);
    let [tests, failures, skipped] = [0, 0, 0];
    for (const suite of root.children) {
      const cases = suite.children.filter(({ name }) => name === "testcase");
      const having = (name: string) =>
        cases.filter(({ children }) => children.some((child) => child.name === name)).length;
      expect(suite.attributes).toMatchObject({
        tests: `${cases.length}`,
        failures: `${having("failure")}`,
        skipped: `${having("skipped")}`,
        errors: "0",
      });
      for (const one of cases) expect(Object.keys(one.attributes)).toEqual(["classname", "name", "time"]);
      tests += cases.length;
      failures += having("failure");
      skipped += having("skipped");
    }
    expect(root.attributes).toMatchObject({
      tests: `${tests}`,
      failures: `${failures}`,
      skipped: `${skipped}`,
    });
  }

  test("is well-formed and by the schema's rules", () => {
    for (const results of [[], [panicked], [quiet], [panicked, quiet, hostile()]])
      check(triageJunit(results, PANIC));
  });
  test("whatever the guest wrote", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary", maxLength: 60 }), (text) =>
        check(triageJunit([hostile(text)], PANIC)),
      ),
      { seed: 20261126, numRuns: 300 },
    );
  });
  test("text comes out as it went in, but for what XML forbids", () => {
    expect(xmlText("a\tb\n<&>\"']]>")).toBe("a&#9;b&#10;&#60;&#38;&#62;&#34;&#39;]]&#62;");
    expect(xmlText("\x00\x1b\ufffe")).toBe("\\x00\\x1b\\ufffe");
  });
});

describe("GitHub annotations", () => {
  test("of a panic", () => expect(triageGithub(panicked, PANIC)).toMatchSnapshot());
  test("one command a line, whatever the guest wrote", () => {
    fc.assert(
      fc.property(fc.oneof(fc.constant(HOSTILE), fc.string({ unit: "binary" })), (text) => {
        const lines = triageGithub(hostile(text), PANIC).split("\n");
        expect(lines.pop()).toBe("");
        expect(lines.length).toBe(1);
        for (const line of lines) {
          expect(line).toMatch(/^::(error|warning|notice) (?:[a-z]+=[^,:]*)(?:,[a-z]+=[^,:]*)*::/);
          expect(line).not.toMatch(/\r|%(?!25|3A|2C)/);
        }
      }),
      { seed: 20261126, numRuns: 300 },
    );
  });
});

describe("TAP", () => {
  test("of a panic and a quiet VM", () => expect(triageTap([panicked, quiet], PANIC)).toMatchSnapshot());
  test("a guest cannot skip a test", () => {
    const [, , line, ...rest] = triageTap([hostile()], PANIC).split("\n");
    expect(line).toMatch(/^not ok 1 - /);
    expect(line!.replace(/\\[\\#]/g, "")).not.toContain("#");
    expect(rest.filter((other) => /^(not )?ok /.test(other))).toEqual([]);
  });
});

describe("Markdown", () => {
  test("of a panic and a quiet VM", () => expect(triageMarkdown([panicked, quiet], PANIC)).toMatchSnapshot());
  test("guest text is code that nothing in it ends", () => {
    fc.assert(
      fc.property(fc.oneof(fc.constant(HOSTILE), fc.string({ unit: "binary" })), (text) => {
        const span = codeSpan(text);
        expect(span).toMatch(/^$|^`[^`\n]+`$/);
        expect(span.replaceAll("\\|", "")).not.toContain("|");
        const [open, ...lines] = codeBlock([text, "```", text]);
        const close = lines.pop()!;
        expect(open).toBe(`${close}text`);
        for (const line of lines) expect(line.trimStart().startsWith(close)).toBe(false);
      }),
      { seed: 20261126, numRuns: 500 },
    );
  });
  test("outside code there is no word of the guest's", () => {
    const text = triageMarkdown([hostile()], PANIC);
    const outside = text.replace(/(`{3,})text\n[\s\S]*?\n\1/g, "").replace(/`[^`\n]*`/g, "");
    expect(outside).not.toMatch(/script|alert|javascript|@user|https/);
  });
});

describe("HTML", () => {
  test("of a panic and a quiet VM", () => expect(triageHtml([panicked, quiet], PANIC)).toMatchSnapshot());

  const MARKED = "zq";
  test("nothing that a guest wrote is markup", () => {
    fc.assert(
      fc.property(fc.oneof(fc.constant(HOSTILE), fc.string({ unit: "binary" })), (text) => {
        const html = triageHtml([hostile(`${MARKED}${text}`)], PANIC);
        // Every tag is one of ours, and none has a guest's text within.
        const tags = html.match(/<[^>]*>/g)!;
        for (const tag of tags) expect(tag).toMatch(OURS);
        for (const tag of tags) expect(tag).not.toContain(MARKED);
        expect(html.match(/&(?!#\d+;)/g)).toBeNull();
        // biome-ignore lint/suspicious/noControlCharactersInRegex: those must not be in it
        expect(html).not.toMatch(/[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\ud800-\udfff]/u);
      }),
      { seed: 20261126, numRuns: 300 },
    );
  });
  const OURS =
    /^<(?:!DOCTYPE html|\/?(?:html|head|body|title|style|section|h1|h3|p|ul|li|dl|dt|dd|table|tr|th|td|span|pre|a|footer|meta)(?: [a-z-]+="[^"]*"| class="[a-z -]+")*)>$/;

  test("it fetches nothing and runs nothing", () => {
    const html = triageHtml([hostile(), panicked], PANIC);
    expect(html).toContain(`content="default-src 'none'; style-src 'unsafe-inline'"`);
    expect(html).not.toMatch(/<(?:script|img|link|iframe|object|form|base)\b/i);
    expect(html).not.toMatch(/\s(?:src|on[a-z]+|style)=/i);
    expect(html.match(/href="[^"]*"/g)).toEqual(['href="#vm0"', 'href="#vm1"']);
    expect(html).not.toMatch(/url\(|@import/);
  });
  test("escaping", () =>
    expect(htmlText("<a href='x' title=\"&\">\x1b")).toBe(
      "&#60;a href=&#39;x&#39; title=&#34;&#38;&#34;&#62;\\x1b",
    ));
});

describe("--fail-on", () => {
  const of = (severity: "panic" | "oops" | "hang" | "warning" | undefined) => ({
    verdict: { ...quiet.verdict, severity },
  });
  test.each([
    ["panic", "panic", true],
    ["oops", "panic", false],
    ["oops", "oops", true],
    ["hang", "oops", false],
    ["hang", "hang", true],
    ["warning", "hang", false],
    ["warning", "warning", true],
    [undefined, "warning", false],
  ] as const)("%s with --fail-on %s", (severity, failOn, failed) =>
    expect(hasFailed(of(severity), { failOn })).toBe(failed),
  );
});

describe("a failure that was outlived", () => {
  const OOPS = { failOn: "oops" } as const;
  const off = event("console/shutdown", { line: 99, text: "reboot: Power down" });
  const outlived = (severity: "oops" | "warning") =>
    vmOf([
      source("console", {
        findings: [oops({ survived: true, severity })],
        events: [event("console/boot", { line: 1 }), off],
      }),
    ]);
  const failed = outlived("oops");
  const WORDS = "fails because of --fail-on oops: BUG: kernel NULL pointer dereference in foo (outlived)";

  test("is named where it makes the VM fail", () => {
    const [suite] = readXml(triageJunit([failed], OOPS)).children;
    expect(suite!.children[0]!.children[0]!.attributes).toEqual({ type: "null-deref", message: WORDS });
    expect(triageText(failed, OOPS)).toContain(`\n  ${WORDS}\n`);
    expect(triageMarkdown([failed], OOPS)).toContain(`\`${WORDS}\``);
    expect(triageTap([failed], OOPS)).toContain(WORDS);
    expect(triageHtml([failed], OOPS)).toContain(`<p class="failure">${WORDS}</p>`);
    const [first, second] = triageGithub(failed, OOPS).split("\n");
    expect(first).toMatch(
      /^::error file=serial.log,line=10,title=web%3A clean%2C fails because of --fail-on oops/,
    );
    expect(second).toMatch(/^::error file=serial.log,line=10,title=web%3A oops%3A null-deref::BUG/);
  });
  test("is not where the VM does not fail, or fails of its verdict", () => {
    for (const [result, options] of [
      [failed, PANIC],
      [panicked, OOPS],
      [quiet, OOPS],
    ] as const) {
      const all = [
        triageText(result, options),
        triageMarkdown([result], options),
        triageGithub(result, options),
        triageHtml([result], options),
      ];
      expect([...all, triageJunit([result], options)].join("")).not.toContain("fails because of");
    }
  });
  test("is no annotation above the verdict's", () => {
    const levels = (text: string) => text.match(/^::\w+/gm);
    expect(levels(triageGithub(failed, PANIC))).toEqual(["::notice", "::notice"]);
    expect(levels(triageGithub(outlived("warning"), PANIC))).toEqual(["::notice", "::notice"]);
  });
  test("a guest that hung or reset is a warning, and an error where it fails", () => {
    const hung = vmOf([source("console", { findings: [lockup()] })]);
    expect(triageGithub(hung, PANIC)).toMatch(/^::warning .*title=web%3A guest-hang::/);
    expect(triageGithub(hung, { failOn: "hang" })).toMatch(/^::error /);
  });
  test("Markdown lists findings, and none where there is none", () => {
    expect(triageMarkdown([failed], PANIC)).toContain(
      "| severity | finding | where |\n| --- | --- | --- |\n| oops | `BUG: kernel NULL pointer dereference in foo` | `serial.log:10` |\n",
    );
    expect(triageMarkdown([quiet], PANIC)).not.toContain("| severity |");
  });
});
