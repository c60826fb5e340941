// A real OpenID Connect provider for the console's tests: node provider.mjs PORT CALLBACK AFTER-LOGOUT.
//
// Its login page (oidc-provider's own) takes any name and any password: the name is the person of the table below, whose
// claims it hands out. Prints «ready» when it answers. Refuses nothing that the standard allows: refusing is the client's.
import { generateKeyPairSync } from 'node:crypto';
import { Provider } from 'oidc-provider';

const [port, callback, afterLogout] = process.argv.slice(2);
const issuer = `http://127.0.0.1:${port}`;

const people = {
  clerk: { email: 'clerk@city.example', email_verified: true, name: 'Chris at the provider', groups: ['staff'] },
  alias: { email: 'C.Clerk@CITY.example', email_verified: true, name: 'Chris', groups: [] },
  boss: { email: 'dora@city.example', email_verified: true, name: 'Dora', groups: ['staff', 'mail-admins', 'unheard-of'] },
  unverified: { email: 'ida@city.example', email_verified: false, name: 'Not Ida', groups: ['mail-admins'] },
  silent: { email: 'ida@city.example', name: 'Not Ida either' },
  stranger: { email: 'eve@elsewhere.example', email_verified: true, name: 'Eve', groups: ['mail-admins'] },
  nameless: { email_verified: true },
  crooked: { email: 'ida@city.example, eve@elsewhere.example', email_verified: true },
};

const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });

const provider = new Provider(issuer, {
  clients: [{
    client_id: 'civicgate',
    client_secret: 'a-secret-of-the-tests',
    redirect_uris: [callback],
    post_logout_redirect_uris: [afterLogout],
    grant_types: ['authorization_code'],
    response_types: ['code'],
  }],
  claims: { openid: ['sub', 'groups'], email: ['email', 'email_verified'], profile: ['name'] },
  // As Microsoft Entra and Keycloak do: claims stand in the ID token. One person's are at the userinfo endpoint alone.
  conformIdTokenClaims: false,
  findAccount: (_, sub) => ({
    accountId: sub,
    claims: (use) => {
      const all = { sub, ...(people[sub] || {}) };
      return use === 'id_token' && sub === 'alias' ? { sub } : all;
    },
  }),
  jwks: { keys: [{ ...privateKey.export({ format: 'jwk' }), use: 'sig', alg: 'RS256', kid: 'tests' }] },
  cookies: { keys: ['cookies of the tests'] },
  ttl: { AccessToken: 600, AuthorizationCode: 60, IdToken: 600, Grant: 600, Interaction: 600, Session: 600 },
  pkce: { required: () => true },
});

provider.on('server_error', (_, error) => console.error(error));
provider.listen(Number(port), '127.0.0.1', () => console.log('ready'));
process.on('SIGTERM', () => process.exit(0));
