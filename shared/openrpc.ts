/** The interface as an OpenRPC 1.3 document, made from the table in methods.ts. */
import { METHODS } from "./methods.js";
import { ERRORS, VERSION } from "./protocol.js";
import type { Schema } from "./schema.js";

/** What `rpc.discover` answers and `shared/generated/openrpc.json` holds. */
export function openrpc_document(): object {
  const errors = Object.entries(ERRORS).map(([name, { code, cause, cure }]) => ({
    code,
    message: `${name}: ${cause}; ${cure}`,
  }));
  return {
    openrpc: "1.3.2",
    info: { title: "lowport", version: VERSION, license: { name: "MIT" } },
    methods: Object.entries<{ summary: string; who: string; params: Schema; result: Schema }>(METHODS).map(
      ([name, { summary, who, params, result }]) => ({
        name,
        summary,
        description: `Who may call it: ${who}.`,
        paramStructure: "by-name",
        params: Object.entries(params.properties ?? {}).map(([member, schema]) => ({
          name: member,
          required: params.required?.includes(member) ?? false,
          schema,
        })),
        result: { name: "result", schema: result },
        errors,
      }),
    ),
  };
}
