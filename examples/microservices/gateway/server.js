// Passes requests on by the first part of their path, and orders only with a valid token.
"use strict";
const http = require("http");

const PORT = 8080;
const SERVICES = { auth: "auth-service", users: "user-service", orders: "order-service" };

http.createServer(async (request, response) => {
  const [, first] = request.url.split("/");
  const host = SERVICES[first];
  if (!host) return end(response, 404, "no such service");
  if (first === "orders" && !(await isSignedIn(request.headers.authorization))) {
    return end(response, 401, "sign in at /auth/login");
  }
  const { method, url: path, headers } = request;
  const passed = http.request({ host, port: PORT, method, path, headers }, (answer) => {
    response.writeHead(answer.statusCode, answer.headers);
    answer.pipe(response);
  });
  passed.on("error", (error) => end(response, 502, `${host}: ${error.message}`));
  request.pipe(passed);
}).listen(PORT, () => console.log(`listening on ${PORT}`));

function isSignedIn(authorization = "") {
  const where = { host: SERVICES.auth, port: PORT, path: "/auth/check", headers: { authorization } };
  return new Promise((resolve) => {
    const asked = http.get(where, (answer) => {
      answer.resume();
      resolve(answer.statusCode === 200);
    });
    asked.on("error", () => resolve(false));
  });
}

function end(response, status, error) {
  if (response.headersSent) return response.destroy();
  response.writeHead(status, { "Content-Type": "application/json" });
  return response.end(`${JSON.stringify({ error })}\n`);
}

process.on("SIGTERM", () => process.exit(0));
