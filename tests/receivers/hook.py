"""A web hook: ADDRESS PORT FILE [CERTIFICATE KEY]. Each request becomes a line of JSON in the file."""
import http.server
import json
import ssl
import sys

address, port, path, *tls = sys.argv[1:]


class Hook(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        request = {
            "path": self.path,
            "type": self.headers["Content-Type"],
            "authorization": self.headers["Authorization"],
            "body": json.loads(body),
        }
        with open(path, "a") as file:
            file.write(json.dumps(request) + "\n")
        self.send_response(503 if self.path == "/broken" else 204)
        self.end_headers()

    def log_message(self, *_):
        pass


server = http.server.HTTPServer((address, int(port)), Hook)
if tls:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*tls)
    server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
