import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { Ajv2020 } from "ajv/dist/2020.js";

/** Every schema of the project, by the name of its file; a property it does not describe is an error here. */
export function schemas(): Ajv2020 {
  const folder = join(import.meta.dirname, "../../schema");
  const ajv = new Ajv2020({ strict: false, allErrors: true });
  for (const name of readdirSync(folder)) {
    ajv.addSchema(JSON.parse(readFileSync(join(folder, name), "utf8"), closed));
  }
  return ajv;
}

/**
 * A reviver for JSON.parse that closes what describes a value: programs ignore what they do not know, and must, so the
 * schemas themselves are open. Definitions stay so, others build on them.
 */
function closed(key: string, value: unknown): unknown {
  if (key === "properties") return mapValues(value as Record<string, object>, closedObject);
  return key === "items" ? closedObject(value as object) : value;
}

const closedObject = (schema: object): object =>
  ["properties", "$ref", "allOf", "oneOf", "anyOf"].some((word) => word in schema)
    ? { unevaluatedProperties: false, ...schema }
    : schema;

const mapValues = <T, U>(object: Record<string, T>, map: (value: T) => U): Record<string, U> =>
  Object.fromEntries(Object.entries(object).map(([key, value]) => [key, map(value)]));
