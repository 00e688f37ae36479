// A real OpenID provider that registers any client and lets everybody in: PORT and AUDIENCE from the environment.
const { default: Provider } = await import(process.env.NODE_MODULES + "/oidc-provider/lib/index.js");

const port = Number(process.env.PORT);
const provider = new Provider(`http://127.0.0.1:${port}`, {
  clientAuthMethods: ["none", "client_secret_basic", "client_secret_post"],
  scopes: ["openid", "offline_access", "tools"],
  features: {
    devInteractions: { enabled: true }, // its own login and consent forms
    registration: { enabled: true },
    resourceIndicators: {
      enabled: true,
      useGrantedResource: () => true,
      getResourceServerInfo: () => ({
        scope: "tools",
        audience: process.env.AUDIENCE,
        accessTokenFormat: "jwt",
        accessTokenTTL: 600,
        jwt: { sign: { alg: "RS256" } },
      }),
    },
  },
  pkce: { required: () => true },
  findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
});
provider.listen(port, "127.0.0.1");
