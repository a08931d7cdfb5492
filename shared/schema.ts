/** JSON Schema (draft 7) as `as const` literals, and the TypeScript type that such a literal describes. */

/** The part of JSON Schema that lowport uses. */
export interface Schema {
  readonly type?: "object" | "array" | "string" | "integer" | "boolean" | readonly ["string", "null"];
  readonly description?: string;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly required?: readonly string[];
  readonly additionalProperties?: false;
  readonly items?: Schema;
  readonly anyOf?: readonly Schema[];
  readonly enum?: readonly string[];
  readonly const?: unknown;
  readonly default?: unknown;
  readonly pattern?: string;
  readonly minimum?: number;
  readonly maximum?: number;
}

interface Scalars {
  string: string;
  integer: number;
  boolean: boolean;
}
type Required<S> = S extends { required: readonly (infer K)[] } ? K : never;

/** The type of the values that the literal schema S accepts. A member that is not required may be absent. */
export type Static<S> = S extends { enum: readonly (infer E)[] }
  ? E
  : S extends { const: infer C }
    ? C
    : S extends { anyOf: readonly (infer A)[] }
      ? Static<A>
      : S extends { properties: infer P }
        ? { -readonly [K in keyof P as K extends Required<S> ? K : never]: Static<P[K]> } & {
            -readonly [K in keyof P as K extends Required<S> ? never : K]?: Static<P[K]>;
          }
        : S extends { items: infer I }
          ? Static<I>[]
          : S extends { type: readonly ["string", "null"] }
            ? string | null
            : S extends { type: keyof Scalars }
              ? Scalars[S["type"]]
              : never;
