/** What the generated validators look like, and how their findings are told. */

/** One finding of a validator, as Ajv gives it. */
export interface Finding {
  readonly instancePath: string;
  readonly keyword: string;
  readonly params: Readonly<Record<string, unknown>>;
  readonly message?: string;
}

/** True if the value fits; else `errors` tells why, until the next call. May fill in defaults. */
export interface Validate {
  (value: unknown): boolean;
  errors?: readonly Finding[] | null;
}

/** A finding as a JSON pointer (RFC 6901) to the member that is wrong, and what is wrong with it. */
export function describe(finding: Finding): { path: string; message: string } {
  const { instancePath, keyword, params, message = "is wrong" } = finding;
  const member = (name: unknown) => `${instancePath}/${String(name).replaceAll("~", "~0").replaceAll("/", "~1")}`;
  if (keyword === "additionalProperties") return { path: member(params["additionalProperty"]), message: "is not a known member" };
  if (keyword === "required") return { path: member(params["missingProperty"]), message: "is missing" };
  if (keyword === "enum")
    return { path: instancePath, message: `must be one of ${(params["allowedValues"] as string[]).join(", ")}` };
  return { path: instancePath, message };
}
