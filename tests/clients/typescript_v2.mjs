// One scenario with the official TypeScript SDK, version 2: URL, mode and calls in, one line of JSON out.
const { Client, StreamableHTTPClientTransport } = await import(
  process.env.NODE_MODULES + "/@modelcontextprotocol/client/dist/index.mjs"
);

const [url, mode, calls] = process.argv.slice(2);
const options = mode === "legacy" ? {} : { versionNegotiation: { mode } };
const client = new Client({ name: "scenario", version: "1" }, options);
await client.connect(new StreamableHTTPClientTransport(new URL(url)));
const tools = (await client.listTools()).tools.map((tool) => tool.name);
const results = [];
for (const call of JSON.parse(calls)) {
  try {
    const result = await client.callTool({ name: call.tool, arguments: call.arguments });
    const text = result.content.map((block) => block.text ?? "").join("");
    results.push({ text, isError: Boolean(result.isError) });
  } catch (error) {
    results.push({ code: error.code ?? String(error), data: error.data ?? null });
  }
}
await client.close();
console.log(JSON.stringify({ tools, results }));
