// A session with the official TypeScript SDK of either version, led by its caller.
//
// Arguments: the URL, and which version (1, 2). Each line of standard input is a request in JSON,
// {"id", "do", ...}; each line of standard output what became of one, {"id", "result" | "error"}, or what the
// server said by itself, {"heard": METHOD, ...}. Requests run side by side.
import { createInterface } from "node:readline";
import { setTimeout as pause } from "node:timers/promises";

const [url, version] = process.argv.slice(2);
const modules = process.env.NODE_MODULES + "/@modelcontextprotocol";
const v1 = version === "1";
const sdk = await import(v1 ? modules + "/sdk/dist/esm/client/index.js" : modules + "/client/dist/index.mjs");
const { StreamableHTTPClientTransport } = v1
  ? await import(modules + "/sdk/dist/esm/client/streamableHttp.js")
  : sdk;
const types = v1 ? await import(modules + "/sdk/dist/esm/types.js") : null;

const say = (line) => console.log(JSON.stringify(line));
const capabilities = { sampling: {}, elicitation: {}, roots: {} };
const client = new sdk.Client({ name: "session", version: "1" }, { capabilities });
const on = (schema, method, listener) => client.setRequestHandler(v1 ? types[schema] : method, listener);
const hear = (schema, method, listener) =>
  client.setNotificationHandler(v1 ? types[schema] : method, listener);

on("CreateMessageRequestSchema", "sampling/createMessage", async ({ params }) => {
  const { content } = params.messages[0];
  const { text } = Array.isArray(content) ? content[0] : content;
  say({ heard: "sampling/createMessage", text });
  if (text.startsWith("seconds=")) await pause(1000 * Number(text.slice(8)));
  return { role: "assistant", model: "none", content: { type: "text", text: "sampled " + text } };
});
on("ElicitRequestSchema", "elicitation/create", async ({ params }) => {
  say({ heard: "elicitation/create", text: params.message });
  return { action: "accept", content: { name: "Ada" } };
});
on("ListRootsRequestSchema", "roots/list", async () => {
  say({ heard: "roots/list" });
  return { roots: [{ uri: "file:///tmp" }] };
});
hear("LoggingMessageNotificationSchema", "notifications/message", async ({ params }) => {
  say({ heard: "notifications/message", level: params.level, logger: params.logger, data: params.data });
});
for (const [schema, method] of [
  ["ToolListChangedNotificationSchema", "notifications/tools/list_changed"],
  ["ResourceListChangedNotificationSchema", "notifications/resources/list_changed"],
  ["PromptListChangedNotificationSchema", "notifications/prompts/list_changed"],
  ["ResourceUpdatedNotificationSchema", "notifications/resources/updated"],
])
  hear(schema, method, async ({ params }) => say({ heard: method, params }));

const actions = {
  call: ({ id, tool, progress, ...more }) => {
    const onprogress = (told) => say({ heard: "progress", of: id, progress: told.progress });
    const options = { timeout: 60_000, ...(progress && { onprogress }) };
    const params = { name: tool, arguments: more.arguments ?? {} };
    return v1 ? client.callTool(params, undefined, options) : client.callTool(params, options);
  },
  list: async () => (await client.listTools()).tools.map((tool) => tool.name),
  level: ({ level }) => client.setLoggingLevel(level),
  subscribe: ({ uri }) => client.subscribeResource({ uri }),
  ping: () => client.ping(),
};

client.onerror = (error) => process.stderr.write(`${error}\n`);
await client.connect(new StreamableHTTPClientTransport(new URL(url)));
say({ id: 0, result: { capabilities: client.getServerCapabilities() } });
for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line);
  actions[request.do](request).then(
    (result) => say({ id: request.id, result: result ?? null }),
    (error) => say({ id: request.id, error: { code: error.code ?? null, message: String(error) } }),
  );
}
await client.close();
process.exit(0);
