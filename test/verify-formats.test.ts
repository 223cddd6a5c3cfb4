import { describe, expect, test } from "vitest";
import { findingsIn } from "./support/check.ts";
import { avmlBlock, buildLime } from "./synth/lime.ts";
import { PAGE, patternBytes } from "./synth/pattern.ts";

const bytes = (pages: number, seed: number) => patternBytes(pages * PAGE, seed, { zero: () => false });

/** What is found, as `severity CODE`. */
const found = async (...of: Parameters<typeof findingsIn>) =>
  (await findingsIn(...of)).groups.map(({ severity, code }) => `${severity} ${code}`);

describe("damage that makes a format's reader leave something out", () => {
  const lime = buildLime([
    { start: 0x1000, bytes: bytes(4, 1) },
    { start: 0x10_0000, bytes: bytes(4, 2) },
    { start: 0x20_0000, bytes: bytes(4, 3) },
  ]);
  const avml = Buffer.concat([
    avmlBlock({ start: 0x1000, bytes: bytes(4, 1) }),
    avmlBlock({ start: 0x10_0000, bytes: bytes(4, 2) }),
  ]);
  const changed = (image: Buffer, at: number, xor = 1) => {
    const copy = Buffer.from(image);
    copy[at]! ^= xor;
    return copy;
  };
  const second = lime.indexOf("EMiL", 1);
  const secondBlock = avml.indexOf("AVML", 1);

  test.each([
    ["LiME: the magic of a range", changed(lime, second), 4],
    ["LiME: the end of a range", changed(lime, second + 17, 0x20), undefined],
    ["LiME: cut inside a header", lime.subarray(0, second + 20), 4],
    ["AVML: the magic of a block", changed(avml, secondBlock), 4],
    ["AVML: the length of a stream", changed(avml, secondBlock - 8), 4],
    ["AVML: the kind of a first chunk", changed(avml, secondBlock + 32, 0xf0), 4],
    ["AVML: cut inside a header", avml.subarray(0, secondBlock + 20), 4],
  ])("%s", async (_, image, pages) => {
    const { groups, checked } = await findingsIn(image);
    expect(groups).toMatchObject([{ code: "DMP020", severity: "error" }]);
    if (pages !== undefined) expect(checked?.coverage).toMatchObject({ present: pages * PAGE });
  });

  test("and images that are whole", async () => {
    expect([await found(lime), await found(avml)]).toEqual([[], []]);
  });
});
