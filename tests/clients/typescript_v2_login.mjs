// The official TypeScript SDK logs in by what a 401 tells it: URL in, one line of JSON out. The browser is fetch.
import { login } from "./browser.mjs";
const { Client, StreamableHTTPClientTransport, UnauthorizedError } = await import(
  process.env.NODE_MODULES + "/@modelcontextprotocol/client/dist/index.mjs"
);

const url = new URL(process.argv[2]);
const redirect = "http://127.0.0.1:1/callback";
const kept = {};
let answer;
const provider = {
  redirectUrl: redirect,
  clientMetadata: {
    client_name: "scenario",
    redirect_uris: [redirect],
    grant_types: ["authorization_code"],
    response_types: ["code"],
    scope: "tools",
    token_endpoint_auth_method: "none",
  },
  clientInformation: () => kept.client,
  saveClientInformation: (client) => { kept.client = client; },
  tokens: () => kept.tokens,
  saveTokens: (tokens) => { kept.tokens = tokens; },
  codeVerifier: () => kept.verifier,
  saveCodeVerifier: (verifier) => { kept.verifier = verifier; },
  redirectToAuthorization: async (place) => { answer = await login(place.toString(), redirect); },
};
const open = () => new StreamableHTTPClientTransport(url, { authProvider: provider });
const client = new Client({ name: "scenario", version: "1" });
const first = open();
let refused = false;
try {
  await client.connect(first);
} catch (error) {
  if (!(error instanceof UnauthorizedError)) throw error;
  refused = true;
  if (!answer.has("code")) throw new Error(`the issuer refused: ${answer}`);
  await first.finishAuth(answer);
}
await client.connect(open());
const tools = (await client.listTools()).tools.map((tool) => tool.name);
await client.close();
console.log(JSON.stringify({ refused, tools }));
